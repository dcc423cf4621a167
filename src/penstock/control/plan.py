"""The reconcile rules: from journal, looks and wishes to actions, without I/O and without a clock.

A server may be killed at any instruction, a reply may be lost, a listing may be partial or late.
Whatever was true before, these rules bring a cluster from any state to the wanted one, never
submit an id twice and never forget a job, because:

1. A job of ours that is alive but not wanted gets cancelled (:func:`unwanted`); nothing else
   cancels, so a crash between two steps of anything is finished by the next plan.
2. An INTENDED row of which a job is seen is adopted.
3. Absence proves something only in a complete look that began after the submit was over and the
   backend's visibility delay had passed (:func:`absence_proves`).
4. INTENDED rows count at full size (:func:`count`).
5. Too few: submit. Too many: queued jobs first, then those that the scheduler lets go. It alone
   knows for certain which running jobs have joined it; those that have not go first there
   (:func:`shrink`).
6. Waiting in a queue is no failure: no rule here looks at how long a job waits.
7. Who nears the end of its time does not count any more, and bridges until another one serves
   (``handover``).
8. More is submitted only as the queue has room for it (``room``).

Why not simply remember native job ids? Because the id of an accepted job is lost with the reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace

from penstock.control.facts import (
    NOT_TAKEN,
    SCHEDULER,
    Adopt,
    Cancel,
    Close,
    Look,
    MarkExited,
    Plan,
    Release,
    Retire,
    Situation,
    Submit,
    Tracked,
)
from penstock.control.handover import hand_over, leaving
from penstock.model.cluster import BatchRow, RowState
from penstock.model.job import Job, Phase

_NO_JOBS: Mapping[int, Job] = {}

LOST = "the batch system never received it"

ENDLESS = 120.0
"""Seconds after which a job that is ending counts as over: on a node that hangs it may take hours."""


def plan(situation: Situation) -> Plan:
    """What brings this cluster nearer to what is wanted. Changes nothing that it is given."""
    result = Plan()
    rows = {s: judge(situation, tracked, result) for s, tracked in situation.rows.items()}
    for group, desired in situation.desired.items():
        balance(situation, group, desired, rows, result)
    for sequence, tracked in situation.rows.items():
        rows[sequence] = close_if_over(situation, tracked, rows[sequence], result)
    for backend in situation.jobs:
        jobs = tuple(unwanted(situation, backend, rows))
        if jobs:
            result.actions.append(Cancel(backend, jobs))
            result.awaited.add(backend)
    return result


def judge(situation: Situation, tracked: Tracked, result: Plan) -> BatchRow:
    """What has become of a row: refused, adopted, lost, with exits and retirements noted."""
    row = tracked.row
    if isinstance(tracked.outcome, NOT_TAKEN):
        result.actions.append(Close(row.sequence, str(tracked.outcome)))
        return replace(row, state=RowState.CLOSED)
    jobs = jobs_of(situation, row)
    if row.state is RowState.INTENDED:
        if arrived(tracked, jobs):
            result.actions.append(Adopt(row.sequence))
            row = replace(row, state=RowState.SUBMITTED)
        elif absence_proves(situation, tracked):
            result.actions.append(Close(row.sequence, LOST, lost=True))
            return replace(row, state=RowState.CLOSED)
        else:
            result.awaited.add(row.backend)
    return note_losses(situation, tracked, row, jobs, result)


def arrived(tracked: Tracked, jobs: Mapping[int, Job]) -> bool:
    """Whether the batch system has, or had, jobs of this row (rule 2)."""
    return bool(jobs or tracked.seen) or tracked.accepted


def note_losses(
    situation: Situation,
    tracked: Tracked,
    row: BatchRow,
    jobs: Mapping[int, Job],
    result: Plan,
) -> BatchRow:
    """The row without the indices that are over or that the scheduler has let go."""
    wanted = row.wanted
    proven = absence_proves(situation, tracked) and not speaks(situation, row)
    reported = situation.reported.get(row.sequence, frozenset())
    exits: dict[int, Job | None] = {}
    for index in sorted(wanted):
        job = jobs.get(index)
        if job is None:
            if proven or index in reported:
                exits[index] = None
            elif row.state is not RowState.INTENDED:
                result.awaited.add(row.backend)
        elif not job.alive or index in reported or endless(situation, tracked, index, result):
            exits[index] = job
    retired = situation.retired.get(row.sequence, frozenset()) & wanted - exits.keys()
    if exits:
        result.actions.append(MarkExited(row.sequence, exits))
        row = replace(row, exited=row.exited | exits.keys())
    if retired:
        result.actions.append(Release(row.sequence, frozenset(retired)))
        row = replace(row, released=row.released | retired)
    return row


def endless(situation: Situation, tracked: Tracked, index: int, result: Plan) -> bool:
    """Whether a job has been ending for so long that nobody waits for it any more."""
    if index not in tracked.ending:
        return False
    over = tracked.ending[index] + ENDLESS
    if over > situation.now:
        result.wake_at = min(result.wake_at, over)
    return over <= situation.now


def absence_proves(situation: Situation, tracked: Tracked) -> bool:
    """Whether a job that the last look does not show is not there, and will not come (rule 3)."""
    if tracked.settled_at is None:
        return False
    look = situation.looks.get(tracked.row.backend, Look())
    visibility = situation.capabilities[tracked.row.backend].visibility
    return look.complete and look.started > tracked.settled_at + visibility


def speaks(situation: Situation, row: BatchRow) -> bool:
    """Whether the scheduler has spoken to us since the last look began, so cannot be gone."""
    look = situation.looks.get(row.backend, Look())
    return row.group == SCHEDULER and situation.heard_at >= look.started


def close_if_over(situation: Situation, tracked: Tracked, row: BatchRow, result: Plan) -> BatchRow:
    """Close a row of which nothing is wanted, once it is proven that nothing of it runs."""
    if row.state is RowState.CLOSED or row.wanted:
        return row
    look = situation.looks.get(row.backend, Look())
    jobs = jobs_of(situation, row)
    gone = not any(job.alive for job in jobs.values())
    settled = tracked.settled_at is not None and look.complete and look.started > tracked.settled_at
    all_seen = len(tracked.seen) == row.count
    if gone and settled and (all_seen or absence_proves(situation, tracked)):
        result.actions.append(Close(row.sequence))
        return replace(row, state=RowState.CLOSED)
    result.awaited.add(row.backend)
    return row


def unwanted(situation: Situation, backend: str, rows: Mapping[int, BatchRow]) -> Iterator[Job]:
    """Jobs in a backend that are alive and not wanted there (rule 1).

    Two backends may show the same job: a local one sees processes of a Slurm node on its machine,
    and two sections may name one cluster. Then the backend of the job's row has the say alone.
    """
    for sequence, jobs in situation.jobs[backend].items():
        row = rows.get(sequence)
        if row is None or row.state is RowState.CLOSED:
            yield from (job for job in jobs.values() if job.alive)
        elif row.backend != backend:
            continue
        elif row.released or row.exited or max(jobs, default=0) >= row.count:
            wanted = row.wanted
            yield from (job for i, job in jobs.items() if job.alive and i not in wanted)


def count(rows: Mapping[int, BatchRow], group: str) -> int:
    """How many jobs a group has or will have; intended ones count in full (rule 4)."""
    return sum(len(row.wanted) for row in rows.values() if row.group == group)


def balance(
    situation: Situation, group: str, desired: int, rows: dict[int, BatchRow], result: Plan
) -> None:
    """Submit what a group lacks, or let go of what it has too many (rule 5)."""
    going = leaving(situation, group, rows)
    busy = hand_over(situation, group, desired, going, rows, result)
    excess = count(rows, group) - len(going) - desired
    if excess > 0:
        shrink(situation, group, excess, rows, result, busy=busy)
    if excess >= 0 or group in losing(situation, result):
        return
    hold = situation.holds.get(group, situation.now)
    if hold > situation.now:
        result.wake_at = min(result.wake_at, hold)
        result.held.add(group)
        return
    place = situation.places[group]
    size = situation.capabilities[place].max_batch
    missing = min(-excess, situation.room.get(group, -excess))
    if missing < -excess:
        result.crowded[group] = -excess - missing
        result.awaited.add(place)
    while missing > 0:
        result.actions.append(Submit(group, min(missing, size)))
        missing -= size


def losing(situation: Situation, result: Plan) -> set[str]:
    """Groups of which this plan takes something away unasked.

    Nothing makes up for it before it is known what it means: a back-off, a group that stops, the
    end of the cluster. The next plan, which is due at once, does.
    """
    return {
        situation.rows[action.sequence].row.group
        for action in result.actions
        if isinstance(action, (Close, MarkExited))
    }


def shrink(
    situation: Situation,
    group: str,
    excess: int,
    rows: dict[int, BatchRow],
    result: Plan,
    *,
    busy: bool,
) -> None:
    """Let ``excess`` jobs go, those first that lose the least. ``busy``: some are going already."""
    ranked = sorted(
        (rank(situation, situation.rows[row.sequence], index), -row.sequence, -index)
        for row in rows.values()
        if row.group == group
        for index in row.wanted - passed_over(situation, row)
    )
    if situation.stopping and situation.forced:
        free = ranked[:excess]
        rest = 0
    else:
        waiting = [entry for entry in ranked if entry[0] <= QUEUED]
        free = waiting[: max(0, excess - spared(situation, group, result))]
        rest = excess - len(waiting)
    release(((-s, -i) for _, s, i in free), rows, result)
    asked = busy or situation.stopping or not situation.linked or group in situation.retiring
    if rest > 0 and not asked:
        names = tuple((-s, -i) for r, s, i in ranked if r > QUEUED)
        result.actions.append(Retire(group, rest, names))


def passed_over(situation: Situation, row: BatchRow) -> Set[int]:
    """Those that go anyhow, at their own time."""
    return frozenset() if situation.stopping else situation.rows[row.sequence].leaving.keys()


def spared(situation: Situation, group: str, result: Plan) -> int:
    """Waiting jobs that are too many, but may soon be wanted again: they keep their places."""
    number, until = situation.patience.get(group, (0, situation.now))
    if number <= 0 or until <= situation.now:
        return 0
    result.wake_at = min(result.wake_at, until)
    return number


NEVER_RUNS, QUEUED, RUNNING = range(3)


def rank(situation: Situation, tracked: Tracked, index: int) -> int:
    """How much is lost when this job goes."""
    if index in tracked.registered:
        return RUNNING
    job = jobs_of(situation, tracked.row).get(index)
    if job is None or job.phase is Phase.QUEUED:
        return QUEUED
    return NEVER_RUNS if job.phase in (Phase.HELD, Phase.ENDING) else RUNNING


def release(indices: Iterator[tuple[int, int]], rows: dict[int, BatchRow], result: Plan) -> None:
    """Note in the journal that these are not wanted; :func:`unwanted` then cancels them."""
    by_row: dict[int, set[int]] = {}
    for sequence, index in indices:
        by_row.setdefault(sequence, set()).add(index)
    for sequence, gone in sorted(by_row.items()):
        result.actions.append(Release(sequence, frozenset(gone)))
        rows[sequence] = replace(rows[sequence], released=rows[sequence].released | gone)


def jobs_of(situation: Situation, row: BatchRow) -> Mapping[int, Job]:
    """The jobs of a row in the backend that it belongs to."""
    return situation.jobs.get(row.backend, {}).get(row.sequence, _NO_JOBS)
