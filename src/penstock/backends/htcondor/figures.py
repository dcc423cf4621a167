"""HTCondor's own numbers: the jobs, cores and memory of everybody, and what the pool's machines have.

One ``condor_q`` a measurement, which the schedd answers with one line for all jobs that are alike
(``SELECT UNIQUE``), and one ``condor_status`` with a line a machine. ``condor_status -submitters``
would be cheaper and knows neither cores nor memory. Formats observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from penstock.backends.command import Commands
from penstock.backends.htcondor import parse, replies
from penstock.backends.insight import Figure
from penstock.backends.sums import Sum, limited
from penstock.model.errors import BackendError, Unavailable

JOBS = "".join(
    f"{line}\n"
    for line in (
        "SELECT UNIQUE BARE",
        # Sizes may be expressions and texts of users: as numbers they are one word each.
        *("JobStatus AS S", "JobCount AS N"),
        *(
            "real(CpusProvisioned ?: RequestCpus) AS C",
            "real(MemoryProvisioned ?: RequestMemory) AS M",
        ),
        "Owner AS U",
        f"WHERE JobStatus =!= {parse.REMOVED} && JobStatus =!= {parse.COMPLETED}",
    )
)
"""What ``condor_q -print-format`` is given, see "Print Format" in HTCondor's manual."""

_SLOTS = (
    *("-constraint", 'SlotType =!= "Dynamic"', "-autoformat:tV"),
    *("State", "SlotType", "TotalSlotCpus", "Cpus", "TotalSlotMemory", "Memory"),
)
"""Machines whose jobs have parts of them, and slots that jobs have as a whole."""

_STATES = {parse.IDLE: "idle", parse.HELD: "held"}

_NAMES = {
    "penstock_htcondor_jobs": "Jobs in HTCondor's queue.",
    "penstock_htcondor_cores": "Cores that these jobs have, or wait for.",
    "penstock_htcondor_memory_bytes": "Memory that these jobs have, or wait for.",
}
_SLOT_NAMES = {
    "penstock_htcondor_pool_slots": "Machines of the pool, or slots of those that have fixed ones.",
    "penstock_htcondor_pool_cores": "Cores of the pool's machines.",
    "penstock_htcondor_pool_memory_bytes": "Memory of the pool's machines.",
}

Table = Mapping[tuple[str, ...], Sum]


def count(text: str) -> dict[tuple[str, ...], Sum]:
    """Jobs by user and state. Raises Unavailable for a garbled answer."""
    found: dict[tuple[str, ...], Sum] = defaultdict(Sum)
    for line in text.split("\n"):
        words = line.split(maxsplit=4)
        if not words:
            continue
        if len(words) != 5 or not (words[0].isdecimal() and words[1].isdecimal()):
            raise Unavailable("condor_q's answer is not complete")
        status, number, cores, memory, user = words
        state = _STATES.get(int(status), "running")  # or about to end
        found[user.strip(), state].add(Sum(1, _number(cores), _number(memory) * 2**20), int(number))
    return dict(found)


def count_slots(text: str) -> dict[tuple[str, ...], Sum]:
    """What of the machines is ``claimed`` by jobs, ``unclaimed``, and ``unavailable`` (drained, or
    their owners'). A machine whose parts are claimed counts where the rest of it is."""
    states = ("claimed", "unclaimed", "unavailable")
    found: dict[tuple[str, ...], Sum] = {(state,): Sum() for state in states}
    for line in text.split("\n"):
        words = [word.strip().strip('"') for word in line.split("\t")]
        if len(words) != 6:
            continue
        state, kind = words[:2]
        all_cores, cores, all_memory, memory = map(_number, words[2:])
        usual = {"Claimed": "claimed", "Preempting": "claimed", "Unclaimed": "unclaimed"}
        place = usual.get(state, "unclaimed" if state == "Matched" else "unavailable")
        found[(place,)].add(Sum(1, cores, memory * 2**20))
        if kind == "Partitionable":
            parts = Sum(0, max(0.0, all_cores - cores), max(0.0, all_memory - memory) * 2**20)
            found[("claimed",)].add(parts)
    return found


def _number(text: str) -> float:
    """0 for what is no number: ``undefined``, ``error``, text."""
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,18})?", text) else 0.0


def as_figures(table: Table, slots: Table) -> Iterator[Figure]:
    """The sums as samples."""
    for (user, state), total in sorted(table.items()):
        yield from _samples(_NAMES, total, {"user": user, "state": state})
    for (state,), total in sorted(slots.items()):
        yield from _samples(_SLOT_NAMES, total, {"state": state})


def _samples(names: Mapping[str, str], total: Sum, labels: Mapping[str, str]) -> Iterator[Figure]:
    values: Sequence[float] = (total.jobs, total.cores, total.memory)
    for (name, text), value in zip(names.items(), values, strict=True):
        yield Figure(name, text, value, labels)


async def measure(
    commands: Commands, schedd: Sequence[str], pool: Sequence[str], users: int
) -> Sequence[Figure]:
    """One measurement of the schedd and of the pool, named by these arguments.

    Raises Unavailable when the schedd does not answer; machines that a collector does not tell are
    missing.
    """
    words = [*schedd, "-allusers", "-print-format", "/dev/stdin"]
    text = await _ask(commands, "condor_q", words, JOBS.encode())
    try:
        slots = await _ask(commands, "condor_status", [*pool, *_SLOTS])
    except BackendError:
        slots = None

    def work() -> list[Figure]:
        machines = {} if slots is None else count_slots(slots)
        return list(as_figures(limited(count(text), users), machines))

    return await asyncio.to_thread(work)


async def _ask(commands: Commands, name: str, words: Sequence[str], data: bytes = b"") -> str:
    done = await commands.run(name, *words, data=data)
    failure = replies.ask_error(name, done.code, done.errors)
    if failure is not None:
        raise failure
    return done.output.decode(errors="replace")
