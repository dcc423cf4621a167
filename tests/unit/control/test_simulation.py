"""The rules hold against a hostile world, and none of them is idle: see ``simulation.py``.

``PENSTOCK_SEEDS=5000`` runs more seeds than everyday tests have time for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from penstock.control import crowding, plan, site, situate, walltime
from penstock.control.entry import Entry
from penstock.control.execute import Executor
from penstock.control.facts import Cancel, Look, Plan, Situation, Tracked
from penstock.control.timeouts import Facts
from penstock.model.cluster import BatchRow, RowState
from unit.control.simulation import simulate

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "240"))
MUTANT_SEEDS = 160
CHUNK = 60


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The storm would log a book."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio_log = logging.getLogger("asyncio")
    level = asyncio_log.level
    asyncio_log.setLevel(logging.CRITICAL)  # killed servers leave tasks, as killed servers do
    yield
    asyncio_log.setLevel(level)
    structlog.configure(**before)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_seed_ends_as_wished(first: int) -> None:
    violations: list[str] = []
    kills = 0
    for seed in range(first, min(first + CHUNK, SEEDS)):
        simulation = simulate(seed)
        kills += simulation.kills
        violations += simulation.violations
    assert not violations
    assert kills > CHUNK / 2, "servers are killed, or this proves little"


# Each takes one rule away, or bends it.


def nothing_is_unwanted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "unwanted", lambda situation, backend, rows: iter(()))


def tags_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(site, "ours", lambda job, owner: True)


def nothing_is_adopted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "arrived", lambda tracked, jobs: False)


def partial_looks_prove_absence(patch: pytest.MonkeyPatch) -> None:
    def proves(situation: Situation, tracked: Tracked) -> bool:
        look = situation.looks.get(tracked.row.backend, Look())
        visibility = situation.capabilities[tracked.row.backend].visibility
        settled = tracked.settled_at
        return settled is not None and look.started > settled + visibility

    patch.setattr(plan, "absence_proves", proves)


def early_looks_prove_absence(patch: pytest.MonkeyPatch) -> None:
    def proves(situation: Situation, tracked: Tracked) -> bool:
        look = situation.looks.get(tracked.row.backend, Look())
        return (
            look.complete and tracked.settled_at is not None and look.started > tracked.settled_at
        )

    patch.setattr(plan, "absence_proves", proves)


def looks_during_a_submit_prove_absence(patch: pytest.MonkeyPatch) -> None:
    def proves(situation: Situation, tracked: Tracked) -> bool:
        look = situation.looks.get(tracked.row.backend, Look())
        return look.complete and (tracked.settled_at is None or look.started > tracked.settled_at)

    patch.setattr(plan, "absence_proves", proves)


def intents_do_not_count(patch: pytest.MonkeyPatch) -> None:
    def count(rows: Mapping[int, BatchRow], group: str) -> int:
        mine = (row for row in rows.values() if row.group == group)
        return sum(len(row.wanted) for row in mine if row.state is not RowState.INTENDED)

    patch.setattr(plan, "count", count)


def submits_come_before_intents(patch: pytest.MonkeyPatch) -> None:
    async def late(self: Executor, entry: Entry, action: Any) -> None:
        store = self._registry.store
        written: list[BatchRow] = []

        class Later:
            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def add_row(self, row: BatchRow) -> None:
                written.append(row)

        self._registry.store = Later()  # type: ignore[assignment]
        try:
            await submit(self, entry, action)
        finally:
            self._registry.store = store
        await asyncio.sleep(1.0)
        for row in written:
            await store.add_row(row)

    submit = Executor._submit
    patch.setattr(Executor, "_submit", late)


def cancels_come_before_the_journal(patch: pytest.MonkeyPatch) -> None:
    execute = Executor.execute

    async def hasty(self: Executor, entry: Entry, answer: Plan) -> bool:
        for action in answer.actions:
            if isinstance(action, Cancel):
                self._sites[action.backend].cancel(action.jobs)
                await asyncio.sleep(1.0)
        return await execute(self, entry, answer)

    patch.setattr(Executor, "execute", hasty)


def waiting_in_a_queue_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    facts = situate.facts

    def impatient(entry: Entry, watching_since: float) -> Facts:
        scheduler = entry.scheduler()
        return replace(
            facts(entry, watching_since),
            scheduler_ran=scheduler.settled_at if scheduler else None,
        )

    patch.setattr(situate, "facts", impatient)


def an_end_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "note_losses", lambda situation, tracked, row, jobs, result: row)


def silence_is_death(patch: pytest.MonkeyPatch) -> None:
    """A dropped channel fails the cluster, whatever its backend says."""
    facts = situate.facts

    def rash(entry: Entry, watching_since: float) -> Facts:
        gone = entry.cluster.status is situate.Status.RUNNING and entry.link is None
        seen = facts(entry, watching_since)
        return replace(seen, lifetime_ends=watching_since) if gone else seen

    patch.setattr(situate, "facts", rash)


def time_limits_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walltime, "term", lambda *args, **more: None)


def who_leaves_is_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "leaving", lambda situation, group, rows: [])


def a_queue_has_room_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crowding, "shares", lambda demands, cap: dict.fromkeys(demands, 1000))


@pytest.mark.parametrize(
    "mutate",
    [
        time_limits_do_not_matter,
        who_leaves_is_counted,
        a_queue_has_room_for_all,
        nothing_is_unwanted,
        tags_are_believed,
        nothing_is_adopted,
        partial_looks_prove_absence,
        early_looks_prove_absence,
        looks_during_a_submit_prove_absence,
        intents_do_not_count,
        submits_come_before_intents,
        cancels_come_before_the_journal,
        waiting_in_a_queue_is_a_failure,
        an_end_is_not_noticed,
        silence_is_death,
    ],
)
def test_without_a_rule_some_seed_fails(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert any(simulate(seed).violations for seed in range(MUTANT_SEEDS))
