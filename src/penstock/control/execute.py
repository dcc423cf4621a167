"""Carry a plan out: journal first, then everything that rests on it.

The order is what makes a crash harmless. What the journal says and the backend does not know yet
is done by the next plan; the other way round, a job would be forgotten or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from penstock.control import absorb, crowding, words
from penstock.control.deaths import died
from penstock.control.entry import Asked, Entry
from penstock.control.facts import (
    SCHEDULER,
    Action,
    Adopt,
    Cancel,
    Close,
    MarkExited,
    Plan,
    Release,
    Retire,
    Submit,
    Tracked,
)
from penstock.control.launch import Launcher, group_spec, time_limit
from penstock.control.obituary import Obituaries
from penstock.control.registry import Registry
from penstock.control.room import refused, taken
from penstock.control.site import Site
from penstock.model.cluster import BatchRow, RowState
from penstock.model.errors import Absent, BackendError, Full, Rejected, Unavailable, Uncertain

SUBMIT_LIMIT = 300.0
"""Seconds after which a submission without an answer counts as uncertain."""

log = structlog.get_logger()


class Withdrawn(Unavailable):
    """Never sent, because nobody wanted it any more."""


class Executor:
    """Acts on backends, journal and channel as plans say."""

    def __init__(
        self,
        registry: Registry,
        sites: Mapping[str, Site],
        launcher: Launcher,
        wake: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._sites = sites
        self._launcher = launcher
        self._wake = wake
        self.obituaries = Obituaries(registry, sites, launcher.gateway)
        self._retire_id = 0
        self.submitting: set[asyncio.Task[None]] = set()

    def reserve(self, entry: Entry, plan: Plan) -> None:
        """Claim room in queues for what a plan submits, before anybody else plans."""
        for action in plan.actions:
            if isinstance(action, Submit):
                place = group_spec(entry.cluster, action.group).backend
                entry.planned[place] = entry.planned.get(place, 0) + action.count

    async def execute(self, entry: Entry, plan: Plan) -> bool:
        """As ``_execute``; what was reserved is in the journal by then, or given up."""
        try:
            return await self._execute(entry, plan)
        finally:
            entry.planned.clear()

    async def _execute(self, entry: Entry, plan: Plan) -> bool:
        """Carry a plan out. Returns whether the journal changed, so that a new plan is due.

        Raises StoreError before anything rests on what could not be written.
        """
        if entry.cluster.status.active:
            end = next((a for a in plan.actions if self._ends_scheduler(entry, a)), None)
            if isinstance(end, MarkExited):
                await self.obituaries.scheduler(entry, end)
                return True
        changed = await self._journal(entry, plan.actions)
        for action in plan.actions:
            if isinstance(action, MarkExited):
                await self.obituaries.workers(entry, changed[action.sequence], action)
            elif isinstance(action, Close):
                await self._closed(entry, changed[action.sequence], action)
            elif isinstance(action, Submit):
                await self._submit(entry, action)
            elif isinstance(action, Retire):
                self._retire(entry, action)
            elif isinstance(action, Cancel):
                self._sites[action.backend].cancel(action.jobs)
        return bool(changed) or any(isinstance(a, Submit) for a in plan.actions)

    def _ends_scheduler(self, entry: Entry, action: Action) -> bool:
        if not isinstance(action, MarkExited):
            return False
        return entry.rows[action.sequence].row.group == SCHEDULER

    # -- the journal --

    async def _journal(self, entry: Entry, actions: list[Action]) -> dict[int, Tracked]:
        """Write what the plan says about rows, all at once, then take it into memory."""
        rows: dict[int, BatchRow] = {}
        for action in actions:
            if isinstance(action, (Adopt, MarkExited, Release, Close)):
                row = rows.get(action.sequence) or entry.rows[action.sequence].row
                rows[action.sequence] = apply(row, action)
        changed = {sequence: entry.rows[sequence] for sequence in rows}
        if not rows:
            return changed
        await self._registry.store.save_rows(list(rows.values()))
        for sequence, row in rows.items():
            entry.rows[sequence].row = row
            if row.state is RowState.CLOSED:
                entry.close_row(row)
        for sequence in entry.retired.keys() & rows.keys():
            entry.retired[sequence] &= rows[sequence].wanted
        return changed

    async def _closed(self, entry: Entry, tracked: Tracked, action: Close) -> None:
        """What a closed row means for its group: nothing, another try, or the end."""
        row, cluster = tracked.row, entry.cluster
        entry.drop_reports(row)
        if tracked.first_ran is not None:
            line = absorb.usage(cluster, tracked, wall=self._registry.clock(), now=_now())
            await self._registry.store.add_usage([line])
        if isinstance(tracked.outcome, Rejected):
            await self.obituaries.rejected(entry, row, str(tracked.outcome))
        elif action.lost and cluster.status.active:
            health = self.obituaries.health(entry, row.group)
            entry.health[row.group] = died(health, _now(), unserved=0, reason=action.reason)
            what = "The scheduler's job" if row.group == SCHEDULER else f"A batch of {row.count}"
            self._registry.note(
                cluster, "lost", f"{what} was never seen in {row.backend}; it is submitted again."
            )

    # -- submissions --

    async def _submit(self, entry: Entry, action: Submit) -> None:
        """Write the intent, then submit in the background."""
        cluster = entry.cluster
        row = BatchRow(
            cluster=cluster.name,
            sequence=entry.next_sequence,
            group=action.group,
            backend=group_spec(cluster, action.group).backend,
            owner=cluster.owner,
            count=action.count,
            state=RowState.INTENDED,
            intended_at=self._registry.clock(),
        )
        # Not even a sequence whose intent could not be written is used again.
        entry.next_sequence += 1
        await self._registry.store.add_row(row)
        tracked = entry.rows[row.sequence] = Tracked(row, watched=True)
        task = asyncio.ensure_future(self._submitting(entry, tracked))
        self.submitting.add(task)
        task.add_done_callback(self.submitting.discard)

    async def _submitting(self, entry: Entry, tracked: Tracked) -> None:
        row = tracked.row
        site = self._sites[row.backend]
        async with site.slots:
            error = await self._try_submit(entry, tracked, site)
        tracked.outcome = error
        tracked.accepted = error is None or tracked.accepted
        tracked.settled_at = _now()
        self._tell(entry, site, row, error)
        site.poke()
        self._wake(entry.cluster.name)

    async def _try_submit(self, entry: Entry, tracked: Tracked, site: Site) -> BackendError | None:
        """Submit once; the error says what is certain about it."""
        if not entry.cluster.status.active or not tracked.row.wanted:
            return Withdrawn("It was not wanted any more when its turn came.")
        if site.hold_until > _now():
            return Unavailable(site.trouble)
        try:
            spec = group_spec(entry.cluster, tracked.row.group)
            limit = time_limit(site.backend, spec)
            batch = self._launcher.batch(entry.cluster, tracked.row, limit)
            await asyncio.wait_for(site.backend.submit(batch), SUBMIT_LIMIT)
        except BackendError as error:
            return error
        except asyncio.TimeoutError:
            return Uncertain(f"{site.name} did not answer for {SUBMIT_LIMIT:g} s.")
        except Exception as error:
            log.exception("submit failed", cluster=entry.cluster.name, user=entry.cluster.user)
            return Uncertain(f"{site.name}: {error}")
        return None

    def _tell(self, entry: Entry, site: Site, row: BatchRow, error: BackendError | None) -> None:
        """What a submission's end means for the backend and for what the user reads."""
        if isinstance(error, Withdrawn):
            return
        if isinstance(error, Unavailable):
            site.refused(_now(), str(error))
            self._registry.note_once(entry, "unavailable", site.excuse)
        elif isinstance(error, Absent):
            site.absent(entry.cluster.name, _now())
            self._registry.note_once(entry, "unavailable", str(error))
        elif isinstance(error, Uncertain):
            text = f"{site.name} gave no clear answer, looking whether it took the job: {error}"
            self._registry.note(entry.cluster, "uncertain", text)
        else:
            site.answered()
            site.present(entry.cluster.name)
            self._press(entry, site.name, row, error)

    def _press(self, entry: Entry, place: str, row: BatchRow, error: BackendError | None) -> None:
        """Learn how many jobs fit into a queue that was found full."""
        before = entry.pressed.get(place)
        if isinstance(error, Full):
            load = crowding.load_of(crowding.fellows(entry, self._registry), place)
            entry.pressed[place] = refused(before, row.count, str(error), load=load, now=_now())
        elif error is None and before is not None:
            entry.pressed[place] = taken(before, row.count)

    # -- the channel --

    def _retire(self, entry: Entry, action: Retire) -> None:
        if entry.link is None:
            return
        self._retire_id += 1
        entry.asked[action.group] = Asked(self._retire_id, _now(), action.count, action.candidates)
        names = [f"w{sequence}-{index}" for sequence, index in action.candidates]
        entry.link.send(
            {"op": "retire", "id": self._retire_id, "count": action.count, "names": names}
        )


def apply(row: BatchRow, action: Adopt | MarkExited | Release | Close) -> BatchRow:
    """The row as the action leaves it."""
    if isinstance(action, Adopt):
        return replace(row, state=RowState.SUBMITTED)
    if isinstance(action, MarkExited):
        return replace(row, exited=row.exited | action.exits.keys())
    if isinstance(action, Release):
        return replace(row, released=row.released | action.indices)
    return replace(row, state=RowState.CLOSED, reason=words.last_lines(action.reason))


def _now() -> float:
    return asyncio.get_running_loop().time()
