"""Between the model's values and rows of the tables: pure, and cheap enough for a restart.

The adapters are built once; decoding 1,000 clusters is a matter of tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from penstock.model.cluster import (
    BatchRow,
    Cluster,
    ClusterSpec,
    Event,
    RowState,
    Scaling,
    Status,
)
from penstock.model.usage import Usage
from penstock.store import ranges

_SPEC = TypeAdapter(ClusterSpec)
_OPTIONS: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])
_SCALING = TypeAdapter(dict[str, Scaling])

Row = Mapping[str, Any]


def text(value: str) -> str:
    """Text of foreign origin (a batch system's words) as every database takes it: no lone
    surrogates, no NUL."""
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def dump_cluster(cluster: Cluster) -> dict[str, object]:
    """A cluster as a row of ``clusters``."""
    return {
        "name": cluster.name,
        "user": cluster.user,
        "owner": cluster.owner,
        "status": int(cluster.status),
        "stop_as": int(cluster.stop_as),
        "reason": text(cluster.reason),
        "created_at": cluster.created_at,
        "started_at": cluster.started_at,
        "stopped_at": cluster.stopped_at,
        "scheduler_address": text(cluster.scheduler_address),
        "dashboard_address": text(cluster.dashboard_address),
        "token": cluster.token,
        "tls_cert": cluster.tls_cert,
        "tls_key": cluster.tls_key,
        "spec": _SPEC.dump_json(cluster.spec).decode(),
        "options": _OPTIONS.dump_json(dict(cluster.options)).decode(),
        "scaling": _SCALING.dump_json(dict(cluster.scaling)).decode(),
    }


def load_cluster(row: Row) -> Cluster:
    """The cluster of a row. Raises ValueError when the row is not one that we wrote."""
    values = dict(row)
    return Cluster(
        spec=_SPEC.validate_json(values.pop("spec")),
        options=_OPTIONS.validate_json(values.pop("options")),
        scaling=_SCALING.validate_json(values.pop("scaling")),
        status=Status(values.pop("status")),
        stop_as=Status(values.pop("stop_as")),
        **values,
    )


def dump_batch(row: BatchRow) -> dict[str, object]:
    """A journal row as a row of ``batches``."""
    return {
        "cluster": row.cluster,
        "sequence": row.sequence,
        "group": row.group,
        "backend": row.backend,
        "owner": row.owner,
        "count": row.count,
        "state": row.state.value,
        "intended_at": row.intended_at,
        "released": ranges.dump(row.released),
        "exited": ranges.dump(row.exited),
        "reason": text(row.reason),
    }


def load_batch(row: Row) -> BatchRow:
    """The journal row of a row. Raises ValueError when the row is not one that we wrote."""
    values = dict(row)
    return BatchRow(
        state=RowState(values.pop("state")),
        released=ranges.load(values.pop("released")),
        exited=ranges.load(values.pop("exited")),
        **values,
    )


def dump_event(event: Event) -> dict[str, object]:
    """An event as a row of ``events``."""
    return {
        "cluster": event.cluster,
        "at": event.at,
        "kind": event.kind,
        "text": text(event.text),
    }


def dump_usage(usage: Usage) -> dict[str, object]:
    """A line of accounting as a row of ``usage``."""
    return {
        "cluster": usage.cluster,
        "user": usage.user,
        "group": usage.group,
        "backend": usage.backend,
        "workers": usage.workers,
        "cores": usage.cores,
        "memory": usage.memory,
        "started_at": usage.started_at,
        "ended_at": usage.ended_at,
        "job_seconds": usage.job_seconds,
    }
