"""The state directory: everything that a server remembers, readable by nobody else.

<state>/penstock.db     the database (the only memory)
<state>/password        single-user mode: the generated password
<state>/address         single-user mode: the port that was chosen
<state>/run/            sockets and the lock of the running server
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from penstock.door.config import DoorConfig
from penstock.model.errors import PenstockError

PASSWORD_BYTES = 24


class StateError(PenstockError):
    """The state directory cannot be used; the text says why and what to do."""


class State:
    """Paths below one state directory, and the lock that makes its server the only one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run = directory / "run"
        self.database = directory / "penstock.db"
        self.door_socket = Path(DoorConfig.in_state(directory, ()).control)
        self.admin_socket = self.run / "admin.sock"
        self.pid_file = self.run / "server.pid"
        self.address_file = directory / "address"
        self.password_file = directory / "password"
        self._dask_note = self.run / "dask-config"
        self._lock: int | None = None

    def prepare(self) -> None:
        """Make the directories (0700). Raises StateError, also for another user's."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.run.mkdir(mode=0o700, exist_ok=True)
            for path in (self.directory, self.run):
                status = path.stat()
                if status.st_uid != os.geteuid():
                    raise StateError(f"The state directory {path} belongs to another user")
                if status.st_mode & 0o777 != 0o700:
                    path.chmod(0o700)
        except OSError as error:
            raise StateError(
                f"The state directory {self.directory} cannot be used: {error.strerror}"
            ) from None
        longest = len(os.fsencode(self.admin_socket))
        if longest > 100:  # sun_path holds 108 bytes, unix(7)
            raise StateError(
                f"The path of the state directory {self.directory} is too long for Unix sockets "
                f"({longest} bytes, 100 at most); choose a shorter one"
            )

    def lock(self) -> None:
        """Become this directory's only server until this process ends, however it ends."""
        handle = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise StateError(
                f"Another Penstock server (process {other}) runs with the state directory "
                f"{self.directory}; stop it with `penstock stop --state {self.directory}`"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle

    def unlock(self) -> None:
        """Let another server begin."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def running_pid(self) -> int | None:
        """The process id of the server that holds the lock, None when there is none."""
        try:
            handle = os.open(self.pid_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(handle, 32).decode(errors="replace").strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(handle)
        return None

    def remember_dask_config(self, path: Path) -> None:
        """Note where the user's Dask was told of us, for ``penstock stop``."""
        write_private(self._dask_note, f"{path.absolute()}\n")

    def dask_config(self) -> Path | None:
        """The file that ``remember_dask_config`` noted, None when there is none."""
        try:
            return Path(self._dask_note.read_text().rstrip("\n"))
        except FileNotFoundError:
            return None

    def password(self) -> str:
        """Single-user mode's password, made at random on first use (0600)."""
        try:
            return self.password_file.read_text().strip()
        except FileNotFoundError:
            word = secrets.token_urlsafe(PASSWORD_BYTES)
            write_private(self.password_file, word + "\n")
            return word


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read (0600), whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
