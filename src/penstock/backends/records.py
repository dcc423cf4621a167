"""What the server remembers of each submission: that it was made, and where its output goes.

A file a batch, made before the submission: a batch system takes the same name as often as one
likes, so only a file that exists already keeps a tag from being submitted twice. Which jobs there
are is never asked here: that is the batch system's to say.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from penstock.model.errors import Unavailable, Uncertain
from penstock.model.ids import BatchId


@dataclass(frozen=True, slots=True)
class Record:
    """One submission: whose jobs, and the directory of their output (or empty)."""

    owner: str
    logs: str


class Records:
    """The files of one backend in its ``directory``, which is made when it is missing (0700)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def reserve(self, batch: BatchId, record: Record) -> None:
        """Remember a submission. Raises Uncertain when it was made before, or Unavailable."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._directory / batch.tag).open("x") as file:
                json.dump(asdict(record), file)
        except FileExistsError:
            raise Uncertain(f"{batch.tag} was submitted before; it is not again") from None
        except OSError as error:
            raise Unavailable(f"the gateway cannot note a submission: {error.strerror}") from error

    def find(self, batch: BatchId) -> Record | None:
        """What is remembered of a batch."""
        try:
            return Record(**json.loads((self._directory / batch.tag).read_text()))
        except (OSError, ValueError, TypeError):  # never there, or cut off by a full disk
            return None

    def drop(self, batch: BatchId) -> None:
        """Forget a submission. Raises Unavailable."""
        try:
            (self._directory / batch.tag).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"the note of {batch.tag} stays: {error.strerror}") from error

    def of_cluster(self, gateway: str, cluster: str) -> list[BatchId]:
        """All submissions of a cluster."""
        paths = self._directory.glob(f"p-{gateway}-{cluster}-*")
        return [batch for path in paths if (batch := BatchId.parse(path.name)) is not None]
