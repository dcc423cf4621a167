"""When a job would start, if it were submitted now: ``sbatch --test-only``, and what it answers.

Nothing is submitted by it, but slurmctld plans the job for real, so it is asked about few kinds of
jobs, and seldom. Words observed with Slurm 22.05 and 24.11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.backends.insight import Figure
from penstock.backends.slurm import parse, script
from penstock.model.errors import BackendError, Rejected
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Resources, Role
from penstock.settings.backends import SlurmJobSettings

MOST = 20
"""Kinds of jobs that are asked about in one round."""

SCRIPT = b"#!/bin/sh\n"
"""sbatch wants a script even for a test."""

SMALL = Resources(1.0, 2**30)
"""What is asked about where no profile says."""

_ANSWER = re.compile(r"Job \d+ to start at (?P<at>\d+)\b(?P<rest>.*)")
_NODES = re.compile(r" on nodes? (\S+)")
_PARTITION = re.compile(r" in partition (\S+)")
_REFUSED = re.compile(r"^allocation failure: (?P<why>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Start:
    """When (seconds since the epoch) and where a job would start."""

    at: float
    nodes: str
    partition: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a wait depends on, as configured; "" for what Slurm takes by itself."""

    partition: str = ""
    account: str = ""
    qos: str = ""


def place_of(jobs: SlurmJobSettings) -> Place:
    """Where such jobs go."""
    return Place(jobs.partition or "", jobs.account or "", jobs.qos or "")


def arguments(jobs: SlurmJobSettings, resources: Resources) -> list[str]:
    """The arguments of ``sbatch`` for a test of such a job."""
    batch = Batch(BatchId("0" * 8, "0" * 32, 0), "", Role.WORKER, 1, ("true",), resources=resources)
    return ["--test-only", *script.arguments(batch, jobs)]


def parse_test(code: int | None, errors: str) -> Start:
    """What ``sbatch --test-only`` said, with times in seconds since the epoch
    (``SLURM_TIME_FORMAT=%s``). Raises Rejected when such a job could never be, or Unavailable."""
    match = _ANSWER.search(errors) if code == 0 else None
    if match is not None:
        found = (pattern.search(match["rest"]) for pattern in (_NODES, _PARTITION))
        return Start(float(match["at"]), *(word[1] if word else "" for word in found))
    refusal = _REFUSED.search(errors)
    known = parse.submit_error(1 if code == 0 else code, errors)
    if refusal is not None and isinstance(known, Rejected):
        said = [line for line in errors.splitlines() if not _REFUSED.match(line)]
        words = parse.said("\n".join([*said, refusal["why"]]))
        raise Rejected(f"Slurm refuses such a job: {words}")
    raise known or BackendError(f"sbatch --test-only said: {parse.said(errors)}")


def as_figures(found: Mapping[Place, float | None]) -> Sequence[Figure]:
    """Waits in seconds as samples; of what Slurm refused or could not say (None), that it is so."""
    waits, lacks = [], []
    for place, wait in found.items():
        labels = {"partition": place.partition, "account": place.account, "qos": place.qos}
        if wait is not None:
            waits.append(
                Figure(
                    "penstock_slurm_predicted_wait_seconds",
                    "How long a job would wait if it were submitted now, as Slurm expects.",
                    wait,
                    labels,
                )
            )
        lacks.append(
            Figure(
                "penstock_slurm_prediction_failed",
                "1 where Slurm refused to say how long a job would wait, or did not answer.",
                0.0 if wait is not None else 1.0,
                labels,
            )
        )
    return [*waits, *lacks]
