"""Bringing a database to the newest schema, by Alembic migrations that ship with the package.

There is no ``alembic.ini``: the gateway migrates by itself when it starts, in one transaction, so
a crash leaves the old schema or the new one. Alembic is imported only when there is work to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from penstock.model.errors import StoreError
from penstock.store import tables

if TYPE_CHECKING:
    from alembic.config import Config

DIRECTORY = Path(__file__).parent / "migrations"


def version(connection: sa.Connection) -> str | None:
    """The migration that a database is at, None for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def config(connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration for our migrations on an open connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: sa.Connection, where: str, to: str = tables.HEAD) -> None:
    """Migrate to a version, inside the caller's transaction.

    Raises StoreError when the database was written by a Penstock that is newer than this one.
    """
    found = version(connection)
    if found == to:
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    settings = config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"The database {where} was written by a newer Penstock (schema {found}, this one "
            f"knows up to {tables.HEAD}); install that version again, or restore a backup."
        )
    command.upgrade(settings, to)
