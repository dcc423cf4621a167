"""HTCondor's own numbers: the jobs, cores and memory of everybody, in one ``condor_q`` a measurement.

``condor_status -submitters`` would be cheaper and knows neither cores nor memory. Values come
evaluated and quoted (``-autoformat:V``), as sizes may be expressions and strings hold line breaks.
Formats observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from penstock.backends.command import Commands
from penstock.backends.htcondor import parse, replies
from penstock.backends.insight import Figure

OTHERS = "(others)"

ARGUMENTS = (
    *(
        "-allusers",
        "-constraint",
        f"JobStatus != {parse.REMOVED} && JobStatus != {parse.COMPLETED}",
    ),
    *("-autoformat:tV", "Owner", "JobStatus", "RequestCpus", "RequestMemory"),
)

_STATES = {parse.IDLE: "idle", parse.HELD: "held"}
_OWNER = re.compile(r'"([^"\\]{1,256})"')

Key = tuple[str, str]
"""(user, state)"""

Sums = Mapping[Key, tuple[int, float, float]]
"""Jobs, cores and MiB."""


def count(text: str) -> Sums:
    """Jobs by user and state; a line that is none of a job's is left out."""
    found: dict[Key, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for line in text.splitlines():
        words = line.split("\t")
        owner = _OWNER.fullmatch(words[0])
        if len(words) != 4 or owner is None:
            continue
        status, cores, memory = map(_number, words[1:])
        sums = found[owner[1], _STATES.get(int(status), "running")]
        for at, value in enumerate((1, cores, memory)):
            sums[at] += value
    return {key: (int(jobs), cores, memory) for key, (jobs, cores, memory) in found.items()}


def _number(text: str) -> float:
    """0 for what is no number: ``undefined``, ``error``, text."""
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,18})?", text.strip()) else 0.0


def limited(sums: Sums, users: int) -> Sums:
    """At most so many users by name, those with the most cores; the others are added up."""
    cores = Counter[str]()
    for (user, _), (_, wanted, _) in sums.items():
        cores[user] += int(wanted) + 1
    shown = {user for user, _ in cores.most_common(users)}
    found: dict[Key, tuple[int, float, float]] = {}
    for (user, state), values in sums.items():
        key = (user if user in shown else OTHERS, state)
        before = found.get(key, (0, 0.0, 0.0))
        found[key] = (before[0] + values[0], before[1] + values[1], before[2] + values[2])
    return found


def as_figures(sums: Sums) -> Iterator[Figure]:
    """The sums as samples."""
    for (user, state), (jobs, cores, memory) in sorted(sums.items()):
        labels = {"user": user, "state": state}
        yield Figure("penstock_htcondor_jobs", "Jobs in HTCondor's queue.", jobs, labels)
        text = "Cores that these jobs have, or wait for."
        yield Figure("penstock_htcondor_cores", text, cores, labels)
        text = "Memory that these jobs have, or wait for."
        yield Figure("penstock_htcondor_memory_bytes", text, memory * 2**20, labels)


async def measure(commands: Commands, where: Sequence[str], users: int) -> Sequence[Figure]:
    """One measurement of the schedd that ``where`` names. Raises Unavailable."""
    done = await commands.run("condor_q", *where, *ARGUMENTS)
    failure = replies.ask_error("condor_q", done.code, done.errors)
    if failure is not None:
        raise failure
    text = done.output.decode(errors="replace")
    return await asyncio.to_thread(lambda: list(as_figures(limited(count(text), users))))
