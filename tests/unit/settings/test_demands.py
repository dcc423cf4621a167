"""What profiles may ask a backend for."""

from __future__ import annotations

from penstock.model.job import Resources
from penstock.settings.demands import demands
from penstock.settings.figures import SlurmFigureSettings
from penstock.settings.load import validate

GIB = 2**30


def test_all_that_a_backend_may_be_asked_for():
    settings, problems = validate(
        {
            "backends": {"slurm": {"type": "slurm"}, "local": {"type": "local"}},
            "profiles": {
                "cms": {
                    "scheduler": {"backend": "local"},
                    "workers": {
                        "default": {
                            "backend": "slurm",
                            "python": "/opt/python",
                            "cores": 1,
                            "max_cores": 8,
                            "memory": "2 GiB",
                            "max_memory": "32 GiB",
                            "extras": {"qos": "normal", "lifetime": 60},
                        },
                        "gpu": {"backend": "slurm", "python": "/opt/python", "gpus": 1},
                    },
                    "options": {
                        "queue": {
                            "type": "select",
                            "choices": ["batch", "long"],
                            "target": "group.default.extras.partition",
                        },
                        "tier": {"type": "select", "choices": ["a", "b"], "target": "env.TIER"},
                    },
                }
            },
        }
    )
    assert settings is not None
    assert not problems
    usual, most = Resources(1.0, 2 * GIB), Resources(8.0, 32 * GIB)
    gpu = Resources(1.0, 2 * GIB, 1)
    found = [(d.name, d.resources, d.most, dict(d.extras)) for d in demands(settings, "slurm")]
    assert found == [
        ("profile cms, workers default", usual, most, {"qos": "normal", "partition": "batch"}),
        ("profile cms, workers gpu", gpu, gpu, {}),
        (
            "profile cms, workers default with queue=long",
            usual,
            most,
            {"qos": "normal", "partition": "long"},
        ),
    ]
    assert [d.name for d in demands(settings, "local")] == ["profile cms, scheduler"]
    assert {d.python for d in demands(settings, "slurm")} == {"/opt/python"}


def test_figures_can_be_switched_off():
    off = SlurmFigureSettings.model_validate({"period": 0, "predict_period": "0 s"})
    assert off.period == off.predict_period == 0
