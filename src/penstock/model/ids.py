"""Names that we choose before anything exists: of clusters, batches and workers.

Names are handles: a job is submitted under the tag of its batch, which stands in the journal
before the submission, so a server killed at any instruction finds its jobs again.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

CLUSTER_NAME = re.compile(r"[0-9a-f]{32}")
"""A cluster's name: 32 hex digits, as ``dask-gateway-server`` makes them (monitoring relies on it)."""

GATEWAY_ID = re.compile(r"[0-9a-f]{8}")

_TAG = re.compile(r"p-([0-9a-f]{8})-([0-9a-f]{32})-(0|[1-9][0-9]{0,7})")


def new_cluster_name() -> str:
    """A fresh, unguessable cluster name."""
    return uuid.uuid4().hex


def new_gateway_id() -> str:
    """A fresh id for one gateway's state directory; it tells our jobs from another gateway's."""
    return uuid.uuid4().hex[:8]


@dataclass(frozen=True, slots=True, order=True)
class BatchId:
    """One submission: the ``sequence``-th batch of a cluster. Never submitted twice.

    ``sequence`` counts from 0 within a cluster, over schedulers and workers alike.
    """

    gateway: str
    cluster: str
    sequence: int

    @property
    def tag(self) -> str:
        """The handle that travels with every job of the batch (at most 52 characters, [a-z0-9-])."""
        return f"p-{self.gateway}-{self.cluster}-{self.sequence}"

    @classmethod
    def parse(cls, tag: str) -> BatchId | None:
        """The batch that a tag names, or None when it is not a tag of any Penstock."""
        match = _TAG.fullmatch(tag)
        return cls(match[1], match[2], int(match[3])) if match else None


def worker_name(sequence: int, index: int) -> str:
    """The Dask name of one worker: ``w<sequence>-<index>``, e.g. ``w3-4``."""
    return f"w{sequence}-{index}"


def parse_worker_name(name: str) -> tuple[int, int] | None:
    """(sequence, index) of a worker's Dask name, or None for a name that is not one of ours."""
    match = re.fullmatch(r"w(0|[1-9][0-9]{0,7})-(0|[1-9][0-9]{0,7})", name)
    return (int(match[1]), int(match[2])) if match else None
