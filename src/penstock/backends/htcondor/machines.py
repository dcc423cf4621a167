"""Could jobs of such a size and such requirements ever run on a pool's machines? Pure.

Compared with what the machines have when they are empty: waiting is no failure, never starting is.
Formats observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.backends.insight import Finding, Verdict
from penstock.model.job import Resources
from penstock.settings.htcondor import HTCondorJobSettings
from penstock.settings.units import show_size

GOOD, WARNING, BAD = Verdict.GOOD, Verdict.WARNING, Verdict.BAD


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine whose jobs have parts of it, or a fixed slot. ``memory`` in MiB; ``meets``: the
    requirements of each kind of job that was asked about."""

    partitionable: bool
    cores: float
    memory: float
    gpus: float
    containers: bool
    meets: Sequence[bool] = ()

    def holds(self, wanted: Resources) -> bool:
        """Whether such a job would fit on it, were it empty."""
        fits = wanted.cores <= self.cores and wanted.memory <= self.memory * 2**20
        return fits and wanted.gpus <= self.gpus


def arguments(requirements: Sequence[str | None]) -> list[str]:
    """The arguments of ``condor_status`` for ``parse``, with these kinds' requirements."""
    known = ("SlotType", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs")
    runs = "(HasContainer =?= true || HasSingularity =?= true)"
    meets = [f"({of_machine(each or 'true')}) =?= true" for each in requirements]
    return ["-constraint", 'SlotType =!= "Dynamic"', "-autoformat:tV", *known, runs, *meets]


def of_machine(requirements: str) -> str:
    """Requirements of a job, as a machine's ad is asked for itself."""
    return re.sub(r"(?i)\btarget\s*\.", "", requirements)


def parse(text: str) -> list[Machine]:
    """What ``condor_status`` says; a line that is none of a machine's is left out."""
    found = []
    for line in text.split("\n"):
        words = [word.strip() for word in line.split("\t")]
        if len(words) < 5:
            continue
        cores, memory, gpus = (float(w) if re.fullmatch(r"[\d.]+", w) else 0.0 for w in words[1:4])
        partitionable, meets = words[0] == '"Partitionable"', [word == "true" for word in words[5:]]
        found.append(Machine(partitionable, cores, memory, gpus, words[4] == "true", meets))
    return found


NEGOTIATOR = ("-negotiator", "-autoformat", "LastNegotiationCycleEnd0")
"""The arguments of ``condor_status`` for ``judge_negotiator``."""

STALE = 900.0
"""Seconds; cycles of large pools take minutes, and are told of every five."""


def judge_negotiator(text: str, now: float) -> Finding | None:
    """Does anybody give machines to jobs? Only what is wrong is told."""
    ends = [float(word) for word in text.split() if word.isdecimal()]
    if not text.strip():
        better = "is condor_negotiator running on the central manager?"
        return Finding(BAD, "negotiator", "the collector knows none: no job gets a machine", better)
    if ends and now - max(ends) > STALE:
        found = f"gave machines to jobs {(now - max(ends)) / 60:.0f} min ago for the last time"
        return Finding(WARNING, "negotiator", found, "look at its NegotiatorLog")
    return None


def judge_machines(machines: Sequence[Machine]) -> Iterator[Finding]:
    """Is there anything that jobs could run on?"""
    if not machines:
        better = "do startds run, and do they report to this collector? see `pool`"
        yield Finding(BAD, "machines", "the collector knows none", better)
        return
    cores = sum(machine.cores for machine in machines)
    memory = show_size(int(max(machine.memory for machine in machines)) * 2**20)
    largest = f"the largest has {max(m.cores for m in machines):g} cores, one {memory}"
    containers = sum(machine.containers for machine in machines)
    found = f"{len(machines)} with {cores:g} cores, {containers} run containers; {largest}"
    yield Finding(GOOD, "machines", found)
    if not any(machine.partitionable for machine in machines):
        found = "all slots are fixed: a job has a whole one, however little it asks for"
        yield Finding(
            WARNING, "slots", found, "make them partitionable (SLOT_TYPE_1_PARTITIONABLE)"
        )


def judge_fit(
    name: str,
    jobs: HTCondorJobSettings,
    sizes: tuple[Resources, Resources],
    meets: Sequence[Machine],
    all_of: Sequence[Machine],
) -> Finding:
    """Could such jobs ever run? ``sizes``: the usual and the largest; ``meets``: the machines that
    meet the requirements."""
    if all_of and not meets:
        found = f"none of {len(all_of)} machines meets its requirements: {jobs.requirements}"
        return Finding(WARNING, name, found, "such jobs wait for ever; correct `requirements`")
    usual, most = sizes
    fit = [machine for machine in meets if machine.holds(usual)]
    if not fit:
        found = f"no machine that it may run on has {_size(usual)}: such jobs wait for ever"
        return Finding(WARNING, name, found, "lower cores, memory or gpus of the profile")
    if jobs.universe == "container" and not any(machine.containers for machine in fit):
        found = "no machine that it may run on has Apptainer or Singularity"
        return Finding(BAD, name, found, "install apptainer on the nodes, see `HasSingularity`")
    if not any(machine.holds(most) for machine in fit):
        found = f"users may ask for {_size(most)}, and no machine that it may run on has that"
        return Finding(WARNING, name, found, "lower max_cores or max_memory of the profile")
    return Finding(GOOD, name, f"such a job fits on {len(fit)} of {len(all_of)} machines")


def _size(resources: Resources) -> str:
    gpus = f", {resources.gpus} GPUs" if resources.gpus else ""
    return f"{resources.cores:g} cores, {show_size(resources.memory)}{gpus}"
