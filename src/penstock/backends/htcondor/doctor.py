"""Examines an HTCondor pool: can its schedd be reached, may we act for users, does its configuration
suit a gateway, and could the jobs that profiles make ever run?

Nothing is submitted: what jobs would be told is tried with ``condor_submit -dry-run``, rights with
``condor_ping``, sizes and requirements against the machines that the collector knows. Words observed
with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from penstock.backends import fence
from penstock.backends.base import Capabilities
from penstock.backends.command import Commands
from penstock.backends.htcondor import machines, replies, site, submit
from penstock.backends.htcondor.acting import Actor, Actors
from penstock.backends.htcondor.machines import Machine
from penstock.backends.insight import Finding, Verdict
from penstock.backends.owner import user_name
from penstock.backends.room import judge_room
from penstock.model.demand import Demand
from penstock.model.errors import BackendError
from penstock.model.ids import BatchId, new_cluster_name, new_gateway_id
from penstock.model.job import Batch, Role
from penstock.settings.htcondor import HTCondorJobSettings

MOST_DEMANDS = 40
"""Kinds of jobs that are compared."""

_TOOLS = ("condor_q", "condor_submit", "condor_rm", "condor_tail", "condor_status", "condor_ping")


@dataclass(frozen=True, slots=True)
class Patient:
    """What there is to examine. ``schedd``: arguments that name it; ``pool``: that name the pool
    alone; ``name``: of the schedd, empty for this machine's. ``files``: where jobs' files lie, which
    are ``shared`` when they are their users'. ``remember``: seconds."""

    commands: Commands
    actors: Actors
    jobs: HTCondorJobSettings
    demands: Sequence[Demand]
    schedd: Sequence[str]
    pool: Sequence[str]
    name: str
    spool: bool
    files: Path
    shared: bool
    remember: float
    capabilities: Capabilities

    async def ask(self, name: str, *words: str) -> str:
        """What a command says. Raises Unavailable with what it complains of."""
        done = await self.commands.run(name, *words)
        failure = replies.ask_error(name, done.code, done.errors)
        if failure is not None:
            raise failure
        return done.output.decode(errors="replace")


async def examine(patient: Patient, owner: str | None) -> AsyncIterator[Finding]:
    """See ``penstock.backends.insight.Examined``."""
    for finding in _tools(patient):
        yield finding
    yield judge_room(patient.files, shared=patient.shared)
    if patient.spool and patient.actors.way in ("behalf", "token") and not fence.available():
        yield site.UNFENCED
    began = time.monotonic()
    try:
        question = ("-allusers", "-limit", "1", "-autoformat", "ClusterId")
        await patient.ask("condor_q", *patient.schedd, *question)
    except BackendError as error:
        yield site.unreachable("schedd", str(error))
        return
    yield Finding(Verdict.GOOD, "schedd", f"answers in {time.monotonic() - began:.3f} s")
    async for finding in _daemon(patient):
        yield finding
    config = await _config(patient)
    ours, timeout = patient.capabilities, patient.commands.timeout
    for judged in (
        site.judge_limits(config, max_queued=ours.max_queued),
        site.judge_rules(config),
        site.judge_times(timeout, ours.period, patient.remember),
    ):
        for finding in judged:
            yield finding
    async for finding in _users(patient, owner, config):
        yield finding


def _tools(patient: Patient) -> list[Finding]:
    needed = list(_TOOLS)
    needed += ["condor_transfer_data"] if patient.spool else []
    needed += ["condor_token_create"] if patient.actors.way == "token" else []
    missing = [name for name in needed if patient.commands.find(name) is None]
    if not missing:
        return []
    advice = "install them, or set `bin` of the backend"
    return [Finding(Verdict.BAD, "commands", f"there is no {', '.join(missing)}", advice)]


async def _daemon(patient: Patient) -> AsyncIterator[Finding]:
    """Version and clock, by asking the schedd itself."""
    try:
        here = await patient.ask("condor_version")
        words = ("-schedd", "-direct", patient.name, "-autoformat:t", "MyCurrentTime")
        said = await patient.ask("condor_status", *patient.pool, *words, "CondorVersion")
        now = time.time()
    except BackendError as error:
        yield Finding(Verdict.WARNING, "version", str(error), site.advice(str(error)))
        return
    moment, _, version = said.strip().partition("\t")
    done = await patient.commands.run("condor_config_val", "SEC_FS_ENFORCE_CHANNEL_BINDING")
    binding = done.output.decode(errors="replace") if done.code == 0 else ""
    yield site.judge_version(here, version, binding, patient.actors.way)
    if moment.isdecimal():
        yield site.judge_clock(now - float(moment))


async def _config(patient: Patient) -> Mapping[str, str]:
    """What the schedd says of its configuration; empty when it says nothing."""

    async def value(key: str) -> str | None:
        words = [*patient.schedd, "-schedd", key]
        done = await patient.commands.run("condor_config_val", *words)
        return done.output.decode(errors="replace").strip() if done.code == 0 else None

    values = await asyncio.gather(*map(value, site.KEYS))
    pairs = zip(site.KEYS, values, strict=True)
    return {key: text for key, text in pairs if text not in (None, "Not defined")}


async def _users(
    patient: Patient, owner: str | None, config: Mapping[str, str]
) -> AsyncIterator[Finding]:
    """May we act for this user, and would such jobs of theirs be taken?"""
    with tempfile.TemporaryDirectory(prefix="penstock-doctor-") as place:
        # Tokens that nobody but the doctor uses: the server's own directory stays as it is.
        actors = patient.actors.apart(Path(place, "tokens"))
        actor: Actor | None = Actor()
        if owner is not None:
            try:
                actor = await actors.of(owner)
            except BackendError as error:
                what, words = f"acting for {owner}", str(error)
                yield Finding(Verdict.BAD, what, words, site.advice(words))
                actor = None
        if actor is not None:
            yield await _rights(patient, actor, owner, config)
        async for finding in _demands(patient, actor, owner):
            yield finding


async def _rights(
    patient: Patient, actor: Actor, owner: str | None, config: Mapping[str, str]
) -> Finding:
    me = user_name(os.geteuid())
    words = [*patient.schedd, "-type", "SCHEDD"]
    try:
        done = await _run(patient, actor, "condor_ping", *words, "-table", "WRITE")
        identity = site.identity_of(done[0])
        if identity is None:
            said = await _run(patient, actor, "condor_ping", *words, "-verbose", "WRITE")
            return site.refused(owner or me, "\n".join(said))
    except BackendError as error:
        return site.refused(owner or me, str(error))
    if actor.named and owner is not None:
        return site.judge_super(config, owner, identity)
    return site.judge_identity(patient.actors.way, owner, identity, me)


async def _run(patient: Patient, actor: Actor, name: str, *words: str) -> tuple[str, str]:
    """Output and errors, whatever the end."""
    done = await patient.commands.run(name, *words, identity=actor.identity, environ=actor.environ)
    return done.output.decode(errors="replace"), done.errors


# --- kinds of jobs -----------------------------------------------------------------------------


Kind = tuple[Demand, HTCondorJobSettings]


async def _demands(
    patient: Patient, actor: Actor | None, owner: str | None
) -> AsyncIterator[Finding]:
    """Could the jobs of each profile ever run?"""
    kinds: list[Kind] = []
    for demand in patient.demands[:MOST_DEMANDS]:
        own = patient.jobs.model_dump(exclude_unset=True)
        try:
            kinds.append((demand, HTCondorJobSettings.model_validate({**own, **demand.extras})))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            found = f"its extras cannot be: {where}: {why}"
            yield Finding(Verdict.BAD, demand.name, found, "correct the profile's extras")
    known, findings = await _machines(patient, kinds)
    for finding in findings:
        yield finding
    for at, (demand, jobs) in enumerate(kinds):
        refused = None if actor is None else await _dry_run(patient, actor, owner, demand, jobs)
        if refused is not None:
            yield refused
        if known and (refused is None or refused.verdict is not Verdict.BAD):
            meets = [machine for machine in known if machine.meets[at]]
            sizes = demand.resources, demand.most
            yield machines.judge_fit(demand.name, jobs, sizes, meets, known)


async def _machines(
    patient: Patient, kinds: Sequence[Kind]
) -> tuple[Sequence[Machine], Sequence[Finding]]:
    """The machines of the pool, and what is to be said of all of them."""
    words = machines.arguments([jobs.requirements for _, jobs in kinds])
    try:
        known = machines.parse(await patient.ask("condor_status", *patient.pool, *words))
        cycles = await patient.ask("condor_status", *patient.pool, *machines.NEGOTIATOR)
    except BackendError as error:
        return [], [site.unreachable("collector", str(error))]
    away = machines.judge_negotiator(cycles, time.time())
    return known, [*machines.judge_machines(known), *([] if away is None else [away])]


async def _dry_run(
    patient: Patient,
    actor: Actor,
    owner: str | None,
    demand: Demand,
    jobs: HTCondorJobSettings,
) -> Finding | None:
    """Whether ``condor_submit`` likes what such jobs are told; the schedd is not asked."""
    batch = _example(demand, owner or user_name(os.geteuid()))
    named = batch.owner if actor.named else None
    text = submit.description(batch, jobs, "/", owner=named)
    # A program that is there; their own script and its directory are not yet.
    text = re.sub(r"(?m)^executable = .*$", "executable = /bin/sh", text)
    words = ["-terse", *patient.schedd, "-disable", "-dry-run", "/dev/null"]
    try:
        done = await patient.commands.run(
            "condor_submit",
            *words,
            "-",
            identity=actor.identity,
            environ=actor.environ,
            data=text.encode(),
        )
        failure = replies.submit_error(done.code, done.errors)
        if failure is not None:
            raise failure
    except BackendError as error:
        advice = "correct the profile's extras, or [backends.<name>.jobs]"
        return Finding(Verdict.BAD, demand.name, str(error), advice)
    if "unused by condor_submit" in done.errors:
        advice = "correct `submit` of the profile's extras, or of [backends.<name>.jobs]"
        return Finding(Verdict.WARNING, demand.name, replies.said(done.errors), advice)
    return None


def _example(demand: Demand, owner: str) -> Batch:
    """One job as profiles ask for it."""
    return Batch(
        id=BatchId(new_gateway_id(), new_cluster_name(), 0),
        owner=owner,
        role=Role.WORKER,
        count=1,
        command=(demand.python,),
        env={},
        files={},
        resources=demand.resources,
        extras=demand.extras,
    )
