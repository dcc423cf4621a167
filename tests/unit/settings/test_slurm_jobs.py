"""What a site may say about Slurm jobs, and what nobody but the site may."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock.model.errors import SettingsError
from penstock.settings import load
from penstock.settings.backends import SlurmJobSettings

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
