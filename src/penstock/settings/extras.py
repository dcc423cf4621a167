"""Settings of jobs that stand in profiles or come from options: what their backend would refuse. Pure.

A batch system learns of them with the first job; whoever writes a configuration, or asks for a
cluster, should hear of a mistake before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from penstock.model.cluster import AGENT_EXTRAS, DURATIONS
from penstock.settings.backends import BackendSettings, SlurmBackendSettings, SlurmJobSettings
from penstock.settings.htcondor import HTCondorBackendSettings
from penstock.settings.problems import KeyPath, suggest
from penstock.settings.units import parse_duration


def mistakes(
    section: BackendSettings | None, extras: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    """(where, what is wrong) of ``extras`` for jobs of a backend with this ``section``; those of a
    backend that has no table of jobs' settings are not looked at."""
    for key in DURATIONS & extras.keys():
        try:
            parse_duration(extras[key])
        except ValueError as error:
            yield (key,), str(error)
    if not isinstance(section, SlurmBackendSettings | HTCondorBackendSettings):
        return
    try:
        jobs = type(section.jobs).model_validate(
            {key: value for key, value in extras.items() if key not in AGENT_EXTRAS}
        )
        if isinstance(section, SlurmBackendSettings) and isinstance(jobs, SlurmJobSettings):
            section.check_sayable(jobs)
    except ValidationError as error:
        for each in error.errors():
            yield each["loc"], _words(section, each["type"], each["loc"], each["msg"])
    except ValueError as error:
        yield (), str(error)


def _words(
    section: SlurmBackendSettings | HTCondorBackendSettings, kind: str, path: KeyPath, message: str
) -> str:
    if kind == "extra_forbidden":
        system = "Slurm" if isinstance(section, SlurmBackendSettings) else "HTCondor"
        known = sorted(type(section.jobs).model_fields)
        return f"no setting of {system} jobs{suggest(str(path[0]), known)}"
    return message.removeprefix("Value error, ").replace("Input should be", "must be")
