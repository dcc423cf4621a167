"""Opening a SQLite file safely, and its errors in words that say which file and what to do.

WAL, so that readers never wait for the writer. ``synchronous=FULL``, because the journal's promise
(the intent is written before the submit) must also survive a power cut. One connection on one
thread: SQLite has one writer anyway, and so nothing is ever locked by ourselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from penstock.model.errors import StoreError

_ADVICE = (
    ("locked", "is locked by another program", "end that program (is a second gateway running?)"),
    ("disk is full", "cannot be written: the disk is full", "free some space"),
    ("unable to open", "cannot be opened", "check that the directory exists and is ours"),
    ("readonly", "cannot be written", "check the permissions of the file and of its directory"),
    ("disk i/o", "cannot be read or written", "check the disk and the file system"),
    ("not a database", "is not a database", "move the file away or restore a backup"),
    ("malformed", "is damaged", "restore a backup"),
)


def explain(error: DBAPIError, where: str) -> StoreError:
    """A database's error as one sentence: the file, what happened, what to do, SQLite's words."""
    words = str(error.orig)
    for sign, what, advice in _ADVICE:
        if sign in words.lower():
            return StoreError(f"The database {where} {what}; {advice}. SQLite says: {words}")
    return StoreError(f"The database {where} refused: {words}")


def is_locked(error: DBAPIError) -> bool:
    """True when another program holds the database; trying again at once would wait in vain."""
    return "locked" in str(error.orig).lower()


def create_file(path: Path) -> None:
    """Make the file (0600) and its directory (0700) unless they exist; a file's mode is made 0600.

    SQLite gives the files beside it (``-wal``, ``-shm``) the same mode. Raises StoreError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"The database {path} cannot be opened: {error.strerror}; "
            "check that the directory exists and is ours."
        ) from error


def engine(url: sa.URL, busy: float) -> sa.Engine:
    """An engine of one connection that waits ``busy`` seconds for a lock.

    Transactions begin where we say so (``BEGIN IMMEDIATE`` for writers, so that a lock is met
    before anything is done), not where Python's sqlite3 guesses them to.
    """
    made = sa.create_engine(
        url,
        poolclass=StaticPool,
        connect_args={
            "timeout": busy,
            "check_same_thread": False,
        },  # opened here, used by its thread
    )

    @event.listens_for(made, "connect")
    def connect(dbapi: sa.engine.interfaces.DBAPIConnection, _: ConnectionPoolEntry) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return made
