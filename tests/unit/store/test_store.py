"""The store against real SQLite files: what is written is there, and failures say what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.model.cluster import (
    BatchRow,
    Cluster,
    ClusterSpec,
    Event,
    GroupSpec,
    Limits,
    RowState,
    Scaling,
    Status,
)
from penstock.model.errors import StoreError
from penstock.model.job import Resources
from penstock.model.usage import Usage
from penstock.store import Store, migrate, sqlite, tables


def make_cluster(name: str = "a" * 32, **changes: object) -> Cluster:
    group = GroupSpec(
        backend="local",
        python="/opt/env/bin/python",
        env={"GRÜSSE": "zeile\nzwei '\"$(x)", "EMPTY": ""},
        resources=Resources(cores=0.5, memory=2**40, gpus=1),
        extras={"partition": "cms", "list": [1, 2.5, None, {"x": True}]},
    )
    spec = ClusterSpec(
        profile="default",
        scheduler=replace(group, nanny=False),
        workers={"cpu": group, "alpha": replace(group, backend="slurm")},
        limits=Limits(max_lifetime=3600.0, max_workers=7, networks=("10.0.0.0/8",)),
    )
    cluster = Cluster(
        name=name,
        user="anna@example.org",
        owner="anna",
        spec=spec,
        options={"worker_cores": 2, "worker_memory": 4.5, "env": {"A": "ß"}, "flag": True},
        token="t" * 43,
        tls_cert="-----BEGIN CERTIFICATE-----\n",
        tls_key="-----BEGIN PRIVATE KEY-----\n",
        created_at=1_700_000_000.25,
        scaling={"cpu": Scaling(count=3), "alpha": Scaling(2, True, 1, 5)},
    )
    return replace(cluster, **changes)  # type: ignore[arg-type]


def make_row(cluster: str = "a" * 32, sequence: int = 0, **changes: object) -> BatchRow:
    row = BatchRow(
        cluster=cluster,
        sequence=sequence,
        group="cpu",
        backend="local",
        owner="anna",
        count=100,
        state=RowState.INTENDED,
        intended_at=1_700_000_001.5,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "penstock.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{path}", busy=0.05)
    yield opened
    await opened.close()


async def reopen(path: Path) -> Store:
    return await Store.open(f"sqlite:///{path}", busy=0.05)


async def test_clusters_survive_whole(store: Store, path: Path) -> None:
    cluster = make_cluster()
    await store.add_cluster(cluster)
    changed = replace(
        cluster,
        status=Status.STOPPING,
        stop_as=Status.FAILED,
        reason="killed \udce4\0 by the system",
        started_at=1.5,
        scheduler_address="tls://10.0.0.1:1",
        scaling={},
    )
    await store.save_cluster(changed)
    await store.close()
    again = await reopen(path)
    assert await again.clusters() == [replace(changed, reason="killed ?\ufffd by the system")]
    await again.close()


async def test_group_order_is_kept(store: Store) -> None:
    await store.add_cluster(make_cluster())
    (found,) = await store.clusters()
    assert found.spec.default_group == "cpu"


async def test_ended_clusters_are_asked_for_by_time(store: Store) -> None:
    await store.add_cluster(make_cluster("a" * 32))
    await store.add_cluster(make_cluster("b" * 32, status=Status.FAILED, stopped_at=10.0))
    await store.add_cluster(make_cluster("c" * 32, status=Status.STOPPED, stopped_at=20.0))
    assert [c.name[0] for c in await store.clusters()] == ["a", "b", "c"]
    assert [c.name[0] for c in await store.clusters(since=10.0)] == ["a", "c"]


async def test_the_same_cluster_or_batch_twice_is_refused(store: Store) -> None:
    await store.add_cluster(make_cluster())
    with pytest.raises(StoreError, match=r"has cluster a+ already"):
        await store.add_cluster(make_cluster())
    await store.add_row(make_row())
    with pytest.raises(StoreError, match=r"has batch 0 of cluster a+ already"):
        await store.add_row(make_row())


async def test_saving_an_unknown_cluster_says_so(store: Store) -> None:
    with pytest.raises(StoreError, match=r"holds no cluster a+ to save"):
        await store.save_cluster(make_cluster())


async def test_journal(store: Store) -> None:
    await store.add_cluster(make_cluster())
    first = make_row(sequence=0, group="", count=1, state=RowState.SUBMITTED)
    second = make_row(sequence=1)
    await store.add_row(second)
    await store.add_row(first)
    await store.add_row(make_row("b" * 32))  # of a cluster that is not there
    assert await store.rows() == [first, second]
    changed = [
        replace(first, state=RowState.CLOSED, reason="DONE"),
        replace(second, released=frozenset({0, 1, 2, 99}), exited=frozenset(range(50, 60))),
    ]
    await store.save_rows(changed)
    await store.save_rows([])
    assert await store.rows() == changed


async def test_events_are_the_newest_oldest_first(store: Store) -> None:
    events = [Event("a" * 32, float(n), "scaled", f"to {n}") for n in range(10)]
    await store.add_events(events)
    await store.add_events([Event("b" * 32, 0.0, "created", "other")])
    assert await store.events("a" * 32, limit=3) == events[-3:]
    assert await store.events("c" * 32) == []


async def test_usage_outlives_its_cluster(store: Store) -> None:
    line = Usage("a" * 32, "anna", "cpu", "local", 4, 2.0, 2**33, 10.0, 70.0, 200.0)
    await store.add_usage([line, replace(line, user="bert", ended_at=5.0)])
    await store.add_cluster(make_cluster(status=Status.STOPPED, stopped_at=70.0))
    await store.purge(before=100.0)
    assert await store.usage(since=20.0) == [line]
    assert await store.usage(user="anna") == [line]
    assert line.core_seconds == 400.0


async def test_purge_forgets_only_what_ended_before(store: Store) -> None:
    await store.add_cluster(make_cluster("a" * 32))
    await store.add_cluster(make_cluster("b" * 32, status=Status.FAILED, stopped_at=10.0))
    await store.add_cluster(make_cluster("c" * 32, status=Status.STOPPED, stopped_at=20.0))
    for name in "abc":
        await store.add_row(make_row(name * 32))
        await store.add_events([Event(name * 32, 0.0, "created", "")])
    assert await store.purge(before=20.0) == ["b" * 32]
    assert [c.name[0] for c in await store.clusters()] == ["a", "c"]
    assert [r.cluster[0] for r in await store.rows()] == ["a", "c"]
    assert await store.events("b" * 32) == []
    assert await store.purge(before=20.0) == []


async def test_id_and_secrets_are_kept(store: Store, path: Path) -> None:
    gateway, one, two = (
        await store.gateway_id(),
        await store.secret("cookies"),
        await store.secret("dashboards"),
    )
    await store.close()
    again = await reopen(path)
    assert (await again.gateway_id(), await again.secret("cookies")) == (gateway, one)
    assert len(one) == 32
    assert one != two
    await again.close()


async def test_files_are_ours_alone(store: Store, path: Path) -> None:
    await store.add_cluster(make_cluster())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {f.name for f in files} == {"penstock.db", "penstock.db-wal", "penstock.db-shm"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


async def test_one_bad_write_among_many_spoils_only_itself(store: Store) -> None:
    await store.add_row(make_row(sequence=7))
    await store.add_cluster(make_cluster())
    results = await asyncio.gather(
        *(store.add_row(make_row(sequence=n)) for n in range(20)), return_exceptions=True
    )
    assert [n for n, result in enumerate(results) if result is not None] == [7]
    assert isinstance(results[7], StoreError)
    assert [row.sequence for row in await store.rows()] == list(range(20))


async def test_a_cancelled_write_is_still_written(store: Store) -> None:
    task = asyncio.ensure_future(store.add_cluster(make_cluster()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await store.clusters()) == 1


def test_a_loop_that_is_gone_stops_nothing(path: Path) -> None:
    async def leave_in_the_middle() -> Store:
        store = await reopen(path)
        asyncio.ensure_future(store.add_cluster(make_cluster()))  # noqa: RUF006
        await asyncio.sleep(0)
        return store

    async def go_on(store: Store) -> None:
        assert len(await store.clusters()) == 1
        await store.close()

    store = asyncio.run(leave_in_the_middle())
    asyncio.run(go_on(store))


async def test_after_close_every_call_is_refused(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreError, match="was closed"):
        await store.clusters()


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


async def test_locked_by_another_process(store: Store, path: Path) -> None:
    await store.add_cluster(make_cluster())
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        write, read = await asyncio.gather(
            store.add_row(make_row()), store.clusters(), return_exceptions=True
        )
        assert isinstance(write, StoreError)
        assert str(path) in str(write)
        assert "is locked by another program; end that program" in str(write)
        assert not isinstance(read, BaseException)
        assert len(read) == 1
        assert holder.stdin is not None
        holder.stdin.close()
    await store.add_row(make_row())
    assert len(await store.rows()) == 1


async def test_full_disk(path: Path, tmp_path: Path) -> None:
    """A real full file system where we may make one, SQLite's own page limit elsewhere."""
    mount = tmp_path / "full"
    mount.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True
        ).returncode
        == 0
    )
    store = await reopen(mount / "p.db" if mounted else path)
    try:
        if not mounted:
            await store._thread.run(
                lambda c: c.exec_driver_sql("PRAGMA max_page_count=40").close(), writes=False
            )
        written = 0
        with pytest.raises(StoreError, match="the disk is full; free some space"):  # noqa: PT012
            for written in range(10_000):
                cluster = make_cluster(f"{written:032x}", tls_key="x" * 20_000)
                await store.add_cluster(cluster)
        assert len(await store.clusters()) == written
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=8m", str(mount)], check=True)
            await store.add_cluster(cluster)
            assert len(await store.clusters()) == written + 1
    finally:
        await store.close()
        if mounted:
            subprocess.run(["umount", str(mount)], check=True)


async def test_a_newer_database_is_refused(path: Path) -> None:
    await (await reopen(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreError, match=r"penstock\.db was written by a newer Penstock .*9999"):
        await reopen(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a database at all, but text. " * 40, "is not a database; move the file away")],
)
async def test_a_file_that_is_no_database(path: Path, content: bytes, words: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        await reopen(path)
    assert path.read_bytes() == content


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/p\.db cannot be opened"):
        await reopen(tmp_path / "file" / "p.db")


async def test_a_damaged_row_is_named(store: Store, path: Path) -> None:
    await store.add_cluster(make_cluster())
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE clusters SET spec = '{\"profile\": 1}'")
    raw.close()
    with pytest.raises(StoreError, match="holds a row that cannot be read; restore a backup"):
        await store.clusters()


@pytest.mark.parametrize("url", ["no url", "postgresql://u:geheim@h/d"])
async def test_other_addresses_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(StoreError, match="write sqlite:////absolute/path") as caught:
        await Store.open(url)
    assert "geheim" not in str(caught.value)


_CHILD = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[2])
from test_store import make_cluster, make_row
from penstock.store import Store

async def main():
    store = await Store.open("sqlite:///" + sys.argv[1])
    await store.add_cluster(make_cluster())
    for n in range(1000):
        await store.add_row(make_row(sequence=n))
        os.write(1, b".")
        if n == 20:
            asyncio.get_running_loop().call_later(0.002, os._exit, 9)

asyncio.run(main())
"""


async def test_crash_between_writes_loses_nothing_that_returned(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), os.path.dirname(__file__)],
        capture_output=True,
    )
    assert run.returncode == 9, run.stderr.decode()
    store = await reopen(path)
    sequences = [row.sequence for row in await store.rows()]
    assert sequences == list(range(len(sequences)))
    assert len(sequences) >= len(run.stdout) >= 21
    await store.close()


def test_migrations_reach_the_tables_from_every_version(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(migrate.config())
    assert scripts.get_heads() == [tables.HEAD]
    for script in scripts.walk_revisions():
        path = tmp_path / f"{script.revision}.db"
        engine = sqlite.engine(sa.make_url(f"sqlite:///{path}"), 1.0)
        with engine.begin() as connection:
            migrate.upgrade(connection, str(path), script.revision)
            assert migrate.version(connection) == script.revision
        with engine.begin() as connection:
            migrate.upgrade(connection, str(path))
            migrate.upgrade(connection, str(path))
            assert migrate.version(connection) == tables.HEAD
            assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        engine.dispose()


def test_a_migration_that_dies_leaves_nothing(tmp_path: Path) -> None:
    engine = sqlite.engine(sa.make_url(f"sqlite:///{tmp_path}/p.db"), 1.0)
    with pytest.raises(RuntimeError), engine.begin() as connection:  # noqa: PT012
        migrate.upgrade(connection, "p.db")
        raise RuntimeError
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


async def test_memory_database() -> None:
    store = await Store.open("sqlite:///:memory:")
    await store.add_cluster(make_cluster())
    assert len(await store.clusters()) == 1
    await store.close()
