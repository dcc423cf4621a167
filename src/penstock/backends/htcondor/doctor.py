"""Examines an HTCondor pool: can its schedd be reached, may we submit, and are there machines for
the jobs that profiles make?

Nothing is submitted; sizes and requirements are compared with the machines that the collector knows.
Words observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from penstock.backends.command import Commands
from penstock.backends.htcondor import replies
from penstock.backends.htcondor.acting import Actor, Actors
from penstock.backends.insight import Finding, Verdict
from penstock.model.errors import BackendError
from penstock.model.job import Resources
from penstock.settings.demands import Demand
from penstock.settings.htcondor import HTCondorJobSettings
from penstock.settings.units import show_size

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD

MOST_DEMANDS = 40
"""Kinds of jobs that are compared, a question to the collector each."""

_PING = re.compile(r"^\s*(READ|WRITE)\s+(\S+)\s.*?\b(ALLOW|DENY|FAIL)\b\s*(\S*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Patient:
    """What there is to examine. ``schedd``: arguments that name it; ``pool``: that name the pool."""

    commands: Commands
    actors: Actors
    jobs: HTCondorJobSettings
    demands: Sequence[Demand]
    schedd: Sequence[str]
    pool: Sequence[str]


async def examine(patient: Patient, owner: str | None) -> AsyncIterator[Finding]:
    """See ``penstock.backends.insight.Examined``."""
    try:
        done = await patient.commands.run("condor_version")
        version = re.search(r"\$CondorVersion: (\S+)", done.output.decode(errors="replace"))
        yield Finding(GOOD, "version", f"HTCondor {version[1] if version else 'of no version'}")
        actor = Actor() if owner is None else await patient.actors.of(owner)
        for finding in await _schedd(patient, actor, owner):
            yield finding
        async for finding in _machines(patient):
            yield finding
    except BackendError as error:
        advice = "see `act_by`, `schedd`, `pool`, `bin` and `config` of the backend"
        yield Finding(BAD, "HTCondor", str(error), advice)


async def _schedd(patient: Patient, actor: Actor, owner: str | None) -> list[Finding]:
    words = ["-table", "-type", "SCHEDD", *patient.schedd, "READ", "WRITE"]
    done = await patient.commands.run(
        "condor_ping", *words, identity=actor.identity, environ=actor.environ
    )
    return judge_ping(done.output.decode(errors="replace"), done.errors, owner)


def judge_ping(text: str, errors: str, owner: str | None) -> list[Finding]:
    """What ``condor_ping -table`` says of each permission. Pure."""
    whom = "this account" if owner is None else owner
    found = []
    for what, way, decision, identity in _PING.findall(text):
        title = f"{'submitting' if what == 'WRITE' else 'asking'} as {whom}"
        if decision == "ALLOW":
            found.append(Finding(GOOD, title, f"the schedd allows it to {identity} by {way}"))
        else:
            advice = "look at the schedd's ALLOW_ and SEC_ settings"
            found.append(Finding(BAD, title, f"the schedd does not allow it ({way})", advice))
    if not found:
        advice = "does the schedd run, and is its port reachable from here?"
        found.append(Finding(BAD, "schedd", f"no answer: {replies.said(errors)}", advice))
    return found


async def _machines(patient: Patient) -> AsyncIterator[Finding]:
    all_of = await _matching(patient, "true")
    if not all_of:
        advice = "do startds run, and may this account ask the collector?"
        yield Finding(BAD, "machines", "the collector knows none", advice)
        return
    yield Finding(GOOD, "machines", f"{all_of} that jobs may run on")
    for demand in patient.demands[:MOST_DEMANDS]:
        try:
            own = patient.jobs.model_dump(exclude_unset=True)
            jobs = HTCondorJobSettings.model_validate({**own, **demand.extras})
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            found = f"its extras cannot be: {where}: {error.errors()[0]['msg']}"
            yield Finding(BAD, demand.name, found, "correct the profile's extras")
            continue
        number = await _matching(patient, constraint(demand.resources, jobs.requirements))
        if number:
            yield Finding(GOOD, demand.name, f"{number} machines are large enough")
        else:
            advice = "such jobs would wait for ever: see cores, memory and requirements"
            found = f"no machine has {_size(demand.resources)} and meets its requirements"
            yield Finding(WARNING, demand.name, found, advice)
        largest = constraint(demand.most, jobs.requirements)
        if number and demand.most != demand.resources and not await _matching(patient, largest):
            found = f"users may ask for {_size(demand.most)}, and no machine has that"
            advice = "lower max_cores or max_memory of the profile"
            yield Finding(WARNING, demand.name, found, advice)


def constraint(resources: Resources, requirements: str | None) -> str:
    """Machines that such jobs could have for themselves, as the collector is asked. Pure."""
    parts = [
        f"TotalSlotCpus >= {resources.cores:g}",
        f"TotalSlotMemory >= {resources.memory // 2**20}",
    ]
    if resources.gpus:
        parts.append(f"TotalSlotGPUs >= {resources.gpus}")
    if requirements is not None:
        parts.append(f"({re.sub(r'(?i)target[.]', '', requirements)})")
    return " && ".join(parts)


async def _matching(patient: Patient, wanted: str) -> int:
    """How many slots that are no parts of others."""
    whole = 'SlotType =!= "Dynamic"'
    words = [*patient.pool, "-constraint", f"{whole} && ({wanted})", "-autoformat:V", "Name"]
    done = await patient.commands.run("condor_status", *words)
    failure = replies.ask_error("condor_status", done.code, done.errors)
    if failure is not None:
        raise failure
    return len(done.output.splitlines())


def _size(resources: Resources) -> str:
    gpus = f", {resources.gpus} GPUs" if resources.gpus else ""
    return f"{resources.cores:g} cores, {show_size(resources.memory)}{gpus}"
