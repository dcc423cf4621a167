"""What a site may say about Slurm jobs, and what nobody but the site may."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock.auth import Identity, User
from penstock.model.cluster import ClusterSpec
from penstock.model.errors import Invalid, SettingsError
from penstock.settings import load
from penstock.settings.backends import SlurmJobSettings
from penstock.settings.resolve import resolve

ME = Identity("anna", 4_000_000, 100, (100,), "/home/anna")

PROFILE = """
[backends.slurm]
type = "slurm"

[profiles.nodes.scheduler]
backend = "slurm"

[profiles.nodes.workers.default]
backend = "slurm"

[profiles.nodes.workers.default.extras]
workers_per_job = 4
prolog = ["module load python/3.11"]
"""


@pytest.mark.parametrize(
    "option",
    [
        'prolog = { type = "string" }',
        'lines = { type = "select", choices = ["a"], target = "workers.extras.prolog" }',
        'lines = { type = "string", target = "scheduler.extras.prolog" }',
    ],
)
def test_no_option_gives_a_shell_its_lines(tmp_path: Path, option: str) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(PROFILE)
    assert load(path, {}).profiles["nodes"].workers["default"].extras["workers_per_job"] == 4
    path.write_text(f"{PROFILE}\n[profiles.nodes.options]\n{option}\n")
    with pytest.raises(SettingsError, match="so they are the site's alone"):
        load(path, {})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            'queue = { type = "string", target = "workers.extras.partiton" , default = "cms" }',
            "queue cannot set partiton: no setting of Slurm jobs; did you mean 'partition'?",
        ),
        (
            'queue = { type = "select", choices = ["a", "b"], target = "jobs.extras.partiton" }',
            "queue cannot set partiton: no setting of Slurm jobs; did you mean 'partition'?",
        ),
        (
            'length = { type = "select", choices = ["1 h", "soon"], target = "workers.extras.time" }',
            "options.length: length cannot set time: must be a duration",
        ),
        (
            'each = { type = "integer", default = 1, max = 31, target = "workers.extras.workers_per_job" }',
            "options.each: each cannot set workers_per_job: must be less than or equal to 30, not 31",
        ),
        (
            'more = { type = "select", choices = { a = ["--uid=0"] }, target = "jobs.extras.arguments" }',
            "more cannot set arguments: --uid is set by the gateway",
        ),
        (
            'queue = { type = "string", target = "jobs.cores" }',
            "is not a target",
        ),
    ],
)
def test_what_an_option_would_set_is_looked_at_before_a_user_does(
    tmp_path: Path, option: str, words: str
) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(f"{PROFILE}\n[profiles.nodes.options]\n{option}\n")
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert words in str(caught.value)
    assert str(caught.value).count("cannot set") <= 1


OPTIONS = """
[profiles.nodes.options]
queue = { type = "select", choices = ["batch", "cms"], target = "jobs.extras.partition" }
time = { type = "string" }
"""


def test_what_a_user_chooses_is_looked_at_before_a_cluster_is_made(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(PROFILE + OPTIONS)
    settings = load(path, {})

    def made(**options: object) -> ClusterSpec:
        return resolve(settings, 0, options, User("anna"), ME)[0]

    spec = made(queue="cms", time="2 h")
    assert spec.scheduler.extras == {"partition": "cms"}
    assert spec.workers["default"].extras["partition"] == "cms"
    assert spec.workers["default"].extras["time"] == "2 h"
    with pytest.raises(Invalid, match=r"time cannot set time: must be a duration.*, not 'banana'"):
        made(time="banana")


@pytest.mark.parametrize(
    "extras",
    [
        {"prolog": ["two\nlines"]},
        {"prolog": [" "]},
        {"prolog": "module load x"},
        {"workers_per_job": 0},
        {"workers_per_job": 31},
    ],
)
def test_what_cannot_be_is_refused(extras: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SlurmJobSettings.model_validate(extras)
