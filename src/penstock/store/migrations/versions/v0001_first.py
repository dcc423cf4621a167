"""The first schema, whole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables of the first version."""
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    _clusters()
    _batches()
    _events()
    _usage()


def _clusters() -> None:
    op.create_table(
        "clusters",
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
    )
    op.create_index("ix_clusters_status_stopped_at", "clusters", ["status", "stopped_at"])


def _batches() -> None:
    op.create_table(
        "batches",
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


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("ix_events_cluster_id", "events", ["cluster", "id"])


def _usage() -> None:
    op.create_table(
        "usage",
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
    )
    op.create_index("ix_usage_user_ended_at", "usage", ["user", "ended_at"])
