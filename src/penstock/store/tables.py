"""The tables, as the newest migration leaves them; a test compares the two.

Structured values (a cluster's spec, options and scaling) are JSON in text columns: they are read
and written whole, never searched, so that no new option needs a migration. Plain SQL types only:
PostgreSQL shall take the same tables.
"""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "0001"
"""The newest migration. Known without Alembic, whose import costs a restart half a second."""

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

clusters = sa.Table(
    "clusters",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("stop_as", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("stopped_at", sa.Double),
    sa.Column("scheduler_address", sa.Text, nullable=False),
    sa.Column("dashboard_address", sa.Text, nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("tls_cert", sa.Text, nullable=False),
    sa.Column("tls_key", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("scaling", sa.Text, nullable=False),
    sa.Index(None, "status", "stopped_at"),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("cluster", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("backend", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("intended_at", sa.Double, nullable=False),
    sa.Column("released", sa.Text, nullable=False),
    sa.Column("exited", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index(None, "cluster", "id"),
)

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("backend", sa.Text, nullable=False),
    sa.Column("workers", sa.Integer, nullable=False),
    sa.Column("cores", sa.Double, nullable=False),
    sa.Column("memory", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double, nullable=False),
    sa.Column("job_seconds", sa.Double, nullable=False),
    sa.Index(None, "user", "ended_at"),
)
