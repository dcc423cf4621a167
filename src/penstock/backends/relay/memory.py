"""Which clusters have, or had, a notebook: what a new server must know before any is back.

Without it a server that starts again would take the absence of a cluster's jobs for their end. The
database is no place for it: it is this backend's own, and small.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from penstock.model.errors import PenstockError
from penstock.model.ids import CLUSTER_NAME


class Memory:
    """Cluster names → whether the notebook that left wants the jobs to go on, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, bool] = {}
        self._load()

    def __iter__(self) -> object:
        return iter(self._kept)

    def items(self) -> Mapping[str, bool]:
        """All of them."""
        return dict(self._kept)

    def note(self, cluster: str, *, kept: bool) -> None:
        """Remember a cluster; nothing is written when nothing is new."""
        if self._kept.get(cluster) is not kept:
            self._kept[cluster] = kept
            self._save()

    def drop(self, cluster: str) -> None:
        """Forget a cluster that is over."""
        if self._kept.pop(cluster, None) is not None:
            self._save()

    def _load(self) -> None:
        try:
            read = json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise PenstockError(
                f"{self._path} cannot be read ({error}): it says which clusters' workers were "
                f"submitted by notebooks; delete it to give these workers up"
            ) from None
        if isinstance(read, dict):
            self._kept = {k: v is True for k, v in read.items() if CLUSTER_NAME.fullmatch(k)}

    def _save(self) -> None:
        draft = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(self._kept, stream)
        draft.replace(self._path)
