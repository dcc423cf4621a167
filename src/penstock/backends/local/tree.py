"""The directory of the local backend: one directory for each batch, one in it for each job.

    <root>/                    ours, 0711 (0700 when every job runs as the server's own user)
      changes-<gateway>.sock   launchers say here that something ended
      <tag>/                   ours, 0711; making it *is* the lock: a tag starts once
        journal  cancelled  launcher.log
        <index>/               the user's, 0700: the files of the batch, output.log

Users own what is below ``<index>``, so nothing there is followed, trusted or waited for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from penstock.backends.local.journal import Record, parse
from penstock.backends.local.request import LOG
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId


@dataclass(slots=True)
class Kept:
    """What is known of one batch's directory, and since when (seconds since the epoch)."""

    seen: float
    version: tuple[int, int] = (0, 0)
    record: Record | None = None
    cancelled: set[int] = field(default_factory=set)
    over: bool = False


class Tree:
    """Reads and writes the directories of one gateway. Blocks; one thread at a time."""

    def __init__(self, root: Path, gateway: str, *, shared: bool, recent: float) -> None:
        self.root = root
        self.socket_name = f"changes-{gateway}.sock"
        self._gateway = gateway
        self._mode = 0o711 if shared else 0o700
        self._recent = recent
        self._kept: dict[BatchId, Kept] = {}

    def prepare(self) -> None:
        """Make the root, or check that nobody else can write there. Raises Unavailable."""
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                self.root.chmod(self._mode)
            status = self.root.stat()
        except OSError as error:
            raise Unavailable(f"{self.root} cannot be made: {error.strerror}") from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Unavailable(
                f"{self.root} must belong to the gateway's own user and be writable by nobody else"
            )

    def reserve(self, tag: str) -> Path:
        """Make a batch's directory. Raises FileExistsError when the tag was used before."""
        path = self.root / tag
        path.mkdir(mode=0o700)
        path.chmod(self._mode)
        return path

    def drop(self, tag: str) -> None:
        """Delete a batch's directory with all that is in it; symbolic links are not followed."""
        path = self.root / tag
        with contextlib.suppress(FileNotFoundError):
            try:
                shutil.rmtree(path)
            except PermissionError:
                if os.geteuid() == 0:
                    raise
                _allow(path)
                shutil.rmtree(path)

    # --- looking ---------------------------------------------------------------------------

    def batches(self) -> list[BatchId]:
        """Every batch of this gateway that has a directory. Raises Unavailable."""
        try:
            with os.scandir(self.root) as entries:
                found = [BatchId.parse(entry.name) for entry in entries]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"{self.root} cannot be read: {error.strerror}") from error
        return [batch for batch in found if batch and batch.gateway == self._gateway]

    def look(self) -> tuple[dict[BatchId, Kept], bool]:
        """All batches with a journal, and whether every journal could be read."""
        complete = True
        kept: dict[BatchId, Kept] = {}
        for batch in self.batches():
            try:
                one = self._read(batch)
            except OSError:
                complete = False
                one = self._kept.get(batch)
            if one is not None:
                kept[batch] = one
        self._kept = kept
        return {batch: one for batch, one in kept.items() if one.record}, complete

    def current(self, kept: Kept, now: float) -> bool:
        """Whether a batch still belongs into a snapshot: it lives, or ended (or was found) lately."""
        last = kept.record.last if kept.record else None
        return last is None or now - max(last, kept.seen) < self._recent

    def _read(self, batch: BatchId) -> Kept | None:
        path = self.root / batch.tag
        one = self._kept.get(batch)
        if one is not None and one.over:
            return one  # nothing writes there any more, and there may be thousands of these
        try:
            status = (path / "journal").stat()
        except FileNotFoundError:
            return one or Kept(time.time())
        version = (status.st_mtime_ns, status.st_size)
        if one is None:
            one = Kept(time.time(), cancelled=_numbers(path / "cancelled"))
        if one.version != version:
            one.record = parse((path / "journal").read_bytes())
            one.version = version
            one.over = one.record is not None and one.record.last is not None
        return one

    def note_cancelled(self, batch: BatchId, indices: Iterable[int]) -> None:
        """Remember that we ended these, for their exit's reason; best effort when the disk is full."""
        one = self._kept.setdefault(batch, Kept(time.time()))
        new = set(indices) - one.cancelled
        one.cancelled |= new
        if new:
            line = "".join(f"{index}\n" for index in sorted(new)).encode()
            with (
                contextlib.suppress(OSError),
                (self.root / batch.tag / "cancelled").open("ab") as f,
            ):
                f.write(line)

    # --- what users own --------------------------------------------------------------------

    def tail(self, batch: BatchId, index: int, uid: int, size: int) -> bytes:
        """The end of a job's output, when that is a plain file of its user's; empty without one.

        Its owner may have put anything in its place: a link to another file, a pipe without end.
        """
        try:
            with _opened(self.root / batch.tag, os.O_RDONLY | os.O_DIRECTORY) as top:
                where = _opened(str(index), os.O_RDONLY | os.O_DIRECTORY, top)
                with where as directory, _opened(LOG, os.O_RDONLY, directory) as log:
                    status = os.fstat(log)
                    if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
                        return b""
                    return os.pread(log, size, max(0, status.st_size - size))
        except OSError:
            return b""


@contextlib.contextmanager
def _opened(path: str | Path, flags: int, directory: int | None = None) -> Iterator[int]:
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _allow(path: Path) -> None:
    """Give back to ourselves the directories that a job made unwritable."""
    for _, names, _, descriptor in os.fwalk(path, follow_symlinks=False):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                    os.chmod(name, 0o700, dir_fd=descriptor)


def _numbers(path: Path) -> set[int]:
    try:
        return {int(line) for line in path.read_bytes().split() if line.isdigit()}
    except OSError:
        return set()
