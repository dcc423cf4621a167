"""Examines a Slurm: can it be reached, does its configuration suit a gateway, may we act for users,
and could the jobs that profiles make ever run?

Decided from what ``scontrol`` shows (slurm.conf(5)); nothing is submitted. Words observed with Slurm
22.05 and 24.11.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from penstock.backends.command import Commands
from penstock.backends.insight import Finding, Verdict
from penstock.backends.owner import user_name
from penstock.backends.slurm import parse, predict, site
from penstock.backends.slurm.acting import Acting
from penstock.backends.slurm.measure import ask, told
from penstock.backends.slurm.predict import Start
from penstock.backends.slurm.site import Partition
from penstock.model.demand import Demand
from penstock.model.errors import BackendError, Full, Rejected
from penstock.model.job import Resources
from penstock.settings.backends import SlurmJobSettings
from penstock.settings.units import show_size

MOST_DEMANDS = 40
"""Kinds of jobs that are tried; each takes slurmctld a moment."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What there is to examine. ``period``: seconds between two looks at the queue. ``ask_as``: whose
    accounts and limits count where no user is named; None for the server's own account."""

    commands: Commands
    acting: Acting
    jobs: SlurmJobSettings
    demands: Sequence[Demand]
    period: float
    ask_as: str | None = None


async def examine(patient: Patient, owner: str | None) -> AsyncIterator[Finding]:
    """See ``penstock.backends.insight.Examined``."""
    began = time.monotonic()
    try:
        done = await patient.commands.run("scontrol", "show", "config")
        ended = time.time()
        failure = parse.ask_error("scontrol show config", done.code, done.errors)
        if failure is not None:
            raise failure
    except BackendError as error:
        yield site.unreachable(str(error), patient.commands.timeout)
        return
    config = site.parse_config(done.output.decode(errors="replace"))
    yield Finding(Verdict.GOOD, "slurmctld", f"answers in {time.monotonic() - began:.3f} s")
    version = await _version(patient.commands)
    for finding in site.judge_config(
        config,
        client=version,
        now=ended,
        timeout=patient.commands.timeout,
        period=patient.period,
        user=user_name(os.geteuid()),
    ):
        yield finding
    async for finding in _rights(patient, owner):
        yield finding
    async for finding in _demands(patient, owner or patient.ask_as):
        yield finding


async def _version(commands: Commands) -> str:
    try:
        done = await commands.run("scontrol", "--version")
    except BackendError:
        return ""
    return done.output.decode(errors="replace").strip()


async def _rights(patient: Patient, owner: str | None) -> AsyncIterator[Finding]:
    """May we act for this user?"""
    if owner is None:
        return
    why_not = await patient.acting.check(owner)
    if why_not:
        yield Finding(Verdict.BAD, f"acting for {owner}", why_not)
    else:
        yield Finding(Verdict.GOOD, f"acting for {owner}", "jobs can be submitted as this user")


async def _demands(patient: Patient, owner: str | None) -> AsyncIterator[Finding]:
    """Could the jobs of each profile ever run?"""
    done = await patient.commands.run("scontrol", "show", "partition", "--oneliner")
    partitions = site.parse_partitions(done.output.decode(errors="replace"))
    if not partitions:
        yield Finding(Verdict.BAD, "partitions", f"none are shown: {parse.said(done.errors)}")
        return
    names = ", ".join(each.name for each in partitions.values())
    yield Finding(Verdict.GOOD, "partitions", names)
    for demand in patient.demands[:MOST_DEMANDS]:
        try:
            jobs = told(patient.jobs, demand.extras)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            text = f"its extras cannot be: {where}: {error.errors()[0]['msg']}"
            yield Finding(Verdict.BAD, demand.name, text, "correct the profile's extras")
            continue
        async for finding in _demand(patient, demand, jobs, owner, partitions):
            yield finding


async def _demand(
    patient: Patient,
    demand: Demand,
    jobs: SlurmJobSettings,
    owner: str | None,
    partitions: dict[str, Partition],
) -> AsyncIterator[Finding]:
    async def start_of(resources: Resources) -> Start:
        return await ask(
            patient.commands, patient.acting, predict.arguments(jobs, resources), owner
        )

    try:
        start = await start_of(demand.resources)
    except Full as error:  # of whom it was asked for; such a job waits until others end
        yield Finding(Verdict.WARNING, demand.name, str(error))
        return
    except BackendError as error:
        asked_as = owner if patient.acting.rehearses else None
        yield site.judge_refusal(demand.name, str(error), asked_as)
        return
    when = site.wait_words(start.at - time.time())
    place = f" in partition {start.partition}" if start.partition else ""
    yield Finding(Verdict.GOOD, demand.name, f"such a job could start {when}{place}")
    finding = site.judge_time(demand.name, jobs.time, partitions.get(start.partition))
    if finding is not None:
        yield finding
    if demand.most != demand.resources:
        try:
            await start_of(demand.most)
        except Rejected as error:
            found = f"users may ask for {_size(demand.most)}: {error}"
            advice = "lower max_cores or max_memory of the profile"
            yield Finding(Verdict.WARNING, demand.name, found, advice)
        except BackendError as error:
            yield Finding(Verdict.WARNING, demand.name, str(error))


def _size(resources: Resources) -> str:
    return f"{resources.cores:g} cores and {show_size(resources.memory)}"
