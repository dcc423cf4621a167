"""What a test session left behind: processes, directories, users. Nothing may be.

A process is ours when it carries the session's marker in its environment, which children inherit,
or when it works below a directory that the session made: jobs run with an environment of their
own, but always in a directory of ours. Directories are learnt from Python's audit events, so a
test need not register anything.
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
import time
from pathlib import Path

MARKER = "PENSTOCK_TEST_SESSION"
_PATIENCE = 10.0
"""Seconds that what was told to end may take to do so."""


class Leftovers:
    """Watches one session from ``start`` on."""

    def __init__(self) -> None:
        self.session = f"{os.getpid()}-{time.time_ns()}"
        self.made: set[str] = set()
        self.base = ""
        """The session's own directory: it goes when the session is over, so it is no leftover."""
        self._homes = _home_files()

    def start(self) -> None:
        """Mark this process and all that it starts, and note every temporary directory."""
        os.environ[MARKER] = self.session
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in ("tempfile.mkdtemp", "tempfile.mkstemp"):
            self.made.add(os.fsdecode(arguments[0]))  # type: ignore[arg-type]

    def find(self) -> list[str]:
        """A line for each thing left, after a time in which what is ending may end.

        Processes found are killed and directories stay, so that somebody can look into them.
        """
        processes = self._settled()
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        lines = [f"process {pid}: {text}" for pid, text in processes.items()]
        lines += [f"file or directory {path}" for path in sorted(self._paths())]
        lines += [f"file {path}" for path in sorted(_home_files() - self._homes)]
        mine = f"penstock-t{os.getpid()}"
        lines += [f"user {entry.pw_name}" for entry in pwd.getpwall() if entry.pw_name[:-1] == mine]
        return lines

    def _paths(self) -> list[str]:
        within = f"{self.base}/" if self.base else None
        return [
            path
            for path in self.made
            if os.path.lexists(path) and not (within and f"{path}/".startswith(within))
        ]

    def _settled(self) -> dict[int, str]:
        deadline = time.monotonic() + _PATIENCE
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def processes(self) -> dict[int, str]:
        """Living processes of this session besides itself: pid → command line and directory."""
        marker = f"{MARKER}={self.session}".encode()
        roots = tuple(f"{path}/" for path in self.made)
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                proc = Path("/proc", name)
                if proc.joinpath("stat").read_bytes().rpartition(b") ")[2][:1] in b"ZX":
                    continue
                environ = proc.joinpath("environ").read_bytes().split(b"\0")
                where = os.readlink(proc / "cwd").removesuffix(" (deleted)")
                if marker in environ or f"{where}/".startswith(roots):
                    line = proc.joinpath("cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(name)] = f"{line.decode(errors='replace').strip()} (in {where})"
            except OSError:
                continue  # it ended meanwhile, or belongs to somebody else
        return found


def _home_files() -> set[str]:
    """Files that a gateway might write outside of its state directory."""
    home = Path.home()
    places = [home / ".config" / "dask", home / ".config", home / ".local" / "state", home]
    places += [home / ".local" / "share", Path("/var/lib"), Path("/etc/penstock")]
    found = set()
    for place in places:
        if place.is_dir():
            names = os.listdir(place)
            found |= {str(place / name) for name in names if "penstock" in name}
    return found
