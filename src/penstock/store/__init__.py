"""The database: clusters, the journal of batches, events and usage. No row a worker."""

from penstock.store.store import Store

__all__ = ["Store"]
