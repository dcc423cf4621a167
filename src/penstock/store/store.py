"""The async face of the database; the statements themselves run on one thread of their own.

SQLAlchemy Core and not its ORM: there is no object to track, every write says its whole row, and
the values are the model's own. Not aiosqlite either: one thread that commits in groups is less
code than a pool, and faster.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from penstock.model.cluster import BatchRow, Cluster, Event, Status
from penstock.model.errors import StoreError
from penstock.model.ids import new_gateway_id
from penstock.model.usage import Usage
from penstock.store import migrate, rows, sqlite, tables
from penstock.store.thread import DatabaseThread

_T = TypeVar("_T")

_FINAL = tuple(int(status) for status in Status if status.final)

_SAVE_CLUSTER = (
    sa.update(tables.clusters)
    .where(tables.clusters.c.name == sa.bindparam("key_name"))
    .values({c.name: sa.bindparam(c.name) for c in tables.clusters.c if c.name != "name"})
)
_SAVE_ROW = (
    sa.update(tables.batches)
    .where(tables.batches.c.cluster == sa.bindparam("key_cluster"))
    .where(tables.batches.c.sequence == sa.bindparam("key_sequence"))
    .values({c.name: sa.bindparam(c.name) for c in tables.batches.c if not c.primary_key})
)


class Store:
    """The gateway's memory. Open it with ``Store.open``; every method may raise StoreError.

    What a write wrote is on the disk when it returns, or not at all.
    """

    def __init__(self, thread: DatabaseThread, where: str) -> None:
        self._thread = thread
        self._where = where

    @classmethod
    async def open(cls, url: str, *, busy: float = 5.0) -> Store:
        """Open or make a database, e.g. ``sqlite:////var/lib/penstock/penstock.db``.

        ``busy`` is how many seconds to wait for a lock that another program holds. Migrates the
        schema. Raises StoreError, also for a database that a newer Penstock wrote.
        """
        address = _parse(url)
        where = address.database or ":memory:"
        engine = await asyncio.to_thread(_prepare, address, where, busy)
        return cls(DatabaseThread(engine, where), where)

    async def close(self) -> None:
        """Finish all writes and close the file."""
        await self._thread.close()

    async def gateway_id(self) -> str:
        """This gateway's id (8 hex digits), made once and kept."""
        found = await self._keep("gateway_id", lambda: new_gateway_id().encode())
        return found.decode()

    async def secret(self, name: str) -> bytes:
        """32 random bytes, made once under a name and kept."""
        return await self._keep(f"secret:{name}", lambda: secrets.token_bytes(32))

    async def add_cluster(self, cluster: Cluster) -> None:
        """Insert a new cluster."""
        values = rows.dump_cluster(cluster)
        await self._insert(tables.clusters, values, f"cluster {cluster.name}")

    async def save_cluster(self, cluster: Cluster) -> None:
        """Write the whole row of a cluster that exists."""
        values = rows.dump_cluster(cluster)
        values["key_name"] = values.pop("name")

        def call(connection: sa.Connection) -> None:
            if not connection.execute(_SAVE_CLUSTER, values).rowcount:
                raise StoreError(
                    f"The database {self._where} holds no cluster {cluster.name} to save."
                )

        await self._thread.run(call)

    async def clusters(self, *, since: float | None = None) -> list[Cluster]:
        """All clusters by age; of those that ended, only the ones that ended after ``since``
        (seconds since the epoch; None: all)."""
        table = tables.clusters
        query = sa.select(table).order_by(table.c.created_at, table.c.name)
        if since is not None:
            query = query.where(table.c.status.not_in(_FINAL) | (table.c.stopped_at > since))
        return await self._select(query, rows.load_cluster)

    async def add_row(self, row: BatchRow) -> None:
        """Insert a new journal row, unique by (cluster, sequence)."""
        what = f"batch {row.sequence} of cluster {row.cluster}"
        await self._insert(tables.batches, rows.dump_batch(row), what)

    async def save_rows(self, changed: Collection[BatchRow]) -> None:
        """Write whole journal rows that exist, all of them or none."""
        values = []
        for row in changed:
            value = rows.dump_batch(row)
            value["key_cluster"] = value.pop("cluster")
            value["key_sequence"] = value.pop("sequence")
            values.append(value)
        await self._write(_SAVE_ROW, values)

    async def rows(self) -> list[BatchRow]:
        """The journal of all clusters that are still in the database, in order."""
        table = tables.batches
        query = (
            sa.select(table)
            .join(tables.clusters, tables.clusters.c.name == table.c.cluster)
            .order_by(table.c.cluster, table.c.sequence)
        )
        return await self._select(query, rows.load_batch)

    async def add_events(self, events: Collection[Event]) -> None:
        """Append events, all of them or none."""
        await self._write(sa.insert(tables.events), [rows.dump_event(event) for event in events])

    async def events(self, cluster: str, *, limit: int = 200) -> list[Event]:
        """The newest ``limit`` events of a cluster, oldest first."""
        table = tables.events
        query = (
            sa.select(table.c.cluster, table.c.at, table.c.kind, table.c.text)
            .where(table.c.cluster == cluster)
            .order_by(table.c.id.desc())
            .limit(limit)
        )
        return (await self._select(query, lambda row: Event(**row)))[::-1]

    async def add_usage(self, lines: Collection[Usage]) -> None:
        """Append lines of accounting, all of them or none."""
        await self._write(sa.insert(tables.usage), [rows.dump_usage(line) for line in lines])

    async def usage(self, *, since: float = 0.0, user: str | None = None) -> list[Usage]:
        """Lines of accounting that ended after ``since`` (seconds since the epoch), oldest first."""
        table = tables.usage
        query = (
            sa.select(*(c for c in table.c if c.name != "id"))
            .where(table.c.ended_at > since)
            .order_by(table.c.id)
        )
        if user is not None:
            query = query.where(table.c.user == user)
        return await self._select(query, lambda row: Usage(**row))

    async def purge(self, *, before: float) -> list[str]:
        """Forget clusters that ended before a time, with journal and events; returns their names.

        Usage stays.
        """
        table = tables.clusters

        def call(connection: sa.Connection) -> list[str]:
            query = sa.select(table.c.name).where(
                table.c.status.in_(_FINAL), table.c.stopped_at < before
            )
            names = list(connection.scalars(query))
            keys = [{"key": name} for name in names]
            for column in (tables.batches.c.cluster, tables.events.c.cluster, table.c.name):
                if keys:
                    delete = sa.delete(column.table).where(column == sa.bindparam("key"))
                    connection.execute(delete, keys)
            return names

        return await self._thread.run(call)

    async def _keep(self, key: str, make: Callable[[], bytes]) -> bytes:
        table = tables.meta

        def call(connection: sa.Connection) -> bytes:
            query = sa.select(table.c.value).where(table.c.key == key)
            found: bytes | None = connection.scalar(query)
            if found is None:
                found = make()
                connection.execute(sa.insert(table).values(key=key, value=found))
            return found

        return await self._thread.run(call)

    async def _insert(self, table: sa.Table, values: Mapping[str, object], what: str) -> None:
        def call(connection: sa.Connection) -> None:
            try:
                connection.execute(sa.insert(table), values)
            except IntegrityError as error:
                raise StoreError(f"The database {self._where} has {what} already.") from error

        await self._thread.run(call)

    async def _write(
        self, statement: sa.Insert | sa.Update, values: list[dict[str, object]]
    ) -> None:
        if values:
            await self._thread.run(lambda connection: _execute(connection, statement, values))

    async def _select(
        self, query: sa.Select[Any], load: Callable[[dict[str, Any]], _T]
    ) -> list[_T]:
        def call(connection: sa.Connection) -> list[_T]:
            try:
                return [load(dict(row)) for row in connection.execute(query).mappings()]
            except (ValueError, TypeError) as error:
                raise StoreError(
                    f"The database {self._where} holds a row that cannot be read; "
                    f"restore a backup. {error}"
                ) from error

        return await self._thread.run(call, writes=False)


def _execute(
    connection: sa.Connection, statement: sa.Insert | sa.Update, values: list[dict[str, object]]
) -> None:
    connection.execute(statement, values)


def _parse(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
    except ArgumentError:
        raise StoreError(
            "The database's address is not a URL; write sqlite:////absolute/path."
        ) from None
    if address.get_backend_name() != "sqlite":
        raise StoreError(
            f"A database of type {address.get_backend_name()!r} is not supported; "
            "write sqlite:////absolute/path."
        )
    return address


def _prepare(address: sa.URL, where: str, busy: float) -> sa.Engine:
    if where != ":memory:":
        sqlite.create_file(Path(where))
    engine = sqlite.engine(address.set(drivername="sqlite"), busy)
    try:
        with engine.connect().execution_options(writes=False) as connection:
            found = migrate.version(connection)
        if found != tables.HEAD:
            with engine.begin() as connection:
                migrate.upgrade(connection, where)
    except DBAPIError as error:
        engine.dispose()
        raise sqlite.explain(error, where) from error
    except StoreError:
        engine.dispose()
        raise
    return engine
