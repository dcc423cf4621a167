"""What a batch's directory says, and what follows from it and the process table. Pure.

The launcher appends to one file for each batch, ``journal``: a line of JSON when it starts, one for
each job *before* that job may run, one for each job that ended. So a process that runs is on
record, whoever dies when; ``/proc`` then says whether it still runs, and a process that carries our
tag without being on record (its directory was lost) is found by the tag.

    {"boot": "…", "owner": "alice", "uid": 1000, "count": 2, "pid": 41, "start": 900}
    {"index": 0, "pid": 42, "start": 901, "at": 1700000000.0}
    {"index": 0, "code": 143, "oom": false, "at": 1700000100.0}
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from penstock.backends.local.proc import Process
from penstock.model.ids import BatchId
from penstock.model.job import Exit, Job, Phase


@dataclass(frozen=True, slots=True)
class Started:
    """One job's main process: ``start`` in clock ticks since boot, ``at`` in seconds since 1970."""

    pid: int
    start: int
    at: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: ``code`` is 128 + n for signal n; ``oom``: the kernel ran out of memory."""

    code: int
    at: float
    oom: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """The journal of one batch. ``pid`` and ``start`` are the launcher's."""

    boot: str
    owner: str
    uid: int
    count: int
    pid: int
    start: int
    started: Mapping[int, Started] = field(default_factory=dict)
    ended: Mapping[int, Ended] = field(default_factory=dict)

    @property
    def last(self) -> float | None:
        """When the last job ended (seconds since the epoch); None until all ends are on record."""
        if len(self.ended) < self.count:
            return None
        return max(ended.at for ended in self.ended.values())


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the machine found."""

    now: float
    boot: str
    node: str
    processes: Mapping[int, Process]
    tagged: Mapping[tuple[str, int], tuple[Process, ...]]

    @classmethod
    def of(cls, now: float, boot: str, node: str, processes: Mapping[int, Process]) -> Look:
        """Group the living processes by the job that they claim to belong to."""
        tagged: dict[tuple[str, int], list[Process]] = {}
        for process in processes.values():
            if process.tag and process.index is not None and process.alive:
                tagged.setdefault((process.tag, process.index), []).append(process)
        return cls(now, boot, node, processes, {key: tuple(v) for key, v in tagged.items()})

    def has(self, pid: int, start: int) -> Process | None:
        """That very process, not another one that was given its pid."""
        process = self.processes.get(pid)
        return process if process is not None and process.start == start else None


def parse(data: bytes) -> Record | None:
    """The journal's content. A line torn by a crash, or anything else odd, is left out."""
    head: dict[str, object] | None = None
    started: dict[int, Started] = {}
    ended: dict[int, Ended] = {}
    for line in data.splitlines():
        try:
            entry = json.loads(line)
            if "boot" in entry:
                head = entry
            elif "pid" in entry:
                started[entry["index"]] = Started(entry["pid"], entry["start"], entry["at"])
            else:
                ended[entry["index"]] = Ended(entry["code"], entry["at"], entry["oom"])
        except (ValueError, TypeError, KeyError):
            continue
    if head is None:
        return None
    try:
        return Record(**head, started=started, ended=ended)  # type: ignore[arg-type]
    except TypeError:
        return None


def judge(batch: BatchId, record: Record, cancelled: Set[int], look: Look) -> list[Job]:
    """Every job of a batch on record. Call with a journal that was read *after* the look."""
    return [_judge(batch, index, record, index in cancelled, look) for index in record.started]


def _judge(batch: BatchId, index: int, record: Record, cancelled: bool, look: Look) -> Job:
    started = record.started[index]

    def job(phase: Phase, **more: object) -> Job:
        return Job(
            batch=batch,
            index=index,
            native=str(started.pid),
            owner=record.owner,
            phase=phase,
            node=look.node,
            since=started.at,
            **more,  # type: ignore[arg-type]
        )

    ended = record.ended.get(index)
    if ended is not None:
        return job(Phase.EXITED, **_outcome(ended, cancelled))
    if record.boot != look.boot:
        return job(Phase.EXITED, exit=Exit.LOST, reason="this machine was restarted")
    process = look.has(started.pid, started.start)
    if process is not None and process.alive:
        return job(Phase.ENDING if cancelled else Phase.RUNNING)
    if started.at >= look.now:
        # The processes were listed before it began, its journal was read after.
        return job(Phase.ENDING if cancelled else Phase.RUNNING)
    if look.has(record.pid, record.start) or strays(batch, index, record, look):
        # Its launcher is about to write down how it ended, or it left processes behind.
        return job(Phase.ENDING)
    if cancelled:
        return job(Phase.EXITED, exit=Exit.CANCELLED, reason="ended by request")
    reason = "it ended, and nobody was there to see how: its launcher was killed"
    return job(Phase.EXITED, exit=Exit.LOST, reason=reason)


def _outcome(ended: Ended, cancelled: bool) -> dict[str, object]:
    number = ended.code - 128
    name = ""
    if number > 0 and number in set(signal.Signals):
        name = f"signal {number} ({signal.Signals(number).name})"
    if cancelled:
        return {"exit": Exit.CANCELLED, "exit_code": ended.code, "reason": "ended by request"}
    if ended.code == 0:
        return {"exit": Exit.DONE, "exit_code": 0}
    reason = f"ended by {name}" if name else f"exited with code {ended.code}"
    if ended.oom:
        reason = f"out of memory: {reason}"
    return {"exit": Exit.FAILED, "exit_code": ended.code, "reason": reason}


def strays(batch: BatchId, index: int, record: Record, look: Look) -> list[Process]:
    """Living processes of a job's owner that carry its tag, whether its main process lives or not.

    The owner must match: an environment is a claim, and anyone can make it.
    """
    claimed = look.tagged.get((batch.tag, index), ())
    return [process for process in claimed if process.uid == record.uid]


def unrecorded(
    gateway: str, known: Iterable[str], look: Look
) -> dict[tuple[BatchId, int], Process]:
    """Jobs of this gateway that run without a directory: the oldest process of each."""
    records = set(known)
    found: dict[tuple[BatchId, int], Process] = {}
    for (tag, index), processes in look.tagged.items():
        batch = BatchId.parse(tag)
        if batch is None or batch.gateway != gateway or tag in records:
            continue
        found[batch, index] = min(processes, key=lambda process: process.start)
    return found
