"""How a process ended, in words for its user: pure, but for one look at the kernel's counters."""

import signal
from typing import Iterator

from penstock.agent.base import MAX_TAIL


class Ring:
    """The last ``size`` bytes of a stream."""

    def __init__(self, size: int = MAX_TAIL) -> None:
        self.size = size
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Append, and forget what is older than ``size`` bytes."""
        self.data += chunk[-self.size :]
        del self.data[: -self.size]

    def text(self) -> str:
        """The tail as text of at most ``size`` UTF-8 bytes; a broken first character is dropped."""
        text = bytes(self.data).decode("utf-8", "replace")
        return text.encode()[-self.size :].decode("utf-8", "ignore")


def exit_code(status: int) -> int:
    """A child's return code as a shell tells it: signal n reads as 128 + n."""
    return 128 - status if status < 0 else status


def explain(code: int, said: str, oom_kills: int) -> str:
    """Why the child died, for the user: its own words first, else what the code and kernel say."""
    if said:
        return said
    if code == 128 + signal.SIGKILL:
        if oom_kills > 0:
            return "killed by the kernel: out of memory"
        return "killed (SIGKILL), probably out of memory"
    if code > 128:
        try:
            return "killed (%s)" % signal.Signals(code - 128).name
        except ValueError:
            pass
    return "exited with code %d" % code


def oom_files(cgroups: str) -> Iterator[str]:
    """Files that count out-of-memory kills, from the text of /proc/self/cgroup (v2, then v1)."""
    for line in cgroups.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1] == "":
            yield "/sys/fs/cgroup%s/memory.events" % parts[2].rstrip("/")
        elif len(parts) == 3 and "memory" in parts[1].split(","):
            yield "/sys/fs/cgroup/memory%s/memory.oom_control" % parts[2].rstrip("/")


def oom_count(text: str) -> int:
    """The ``oom_kill`` line of memory.events or memory.oom_control; 0 without one."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def oom_kills() -> int:
    """How often the kernel killed for memory in our cgroup so far; 0 where it cannot be known."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            paths = list(oom_files(file.read()))
    except OSError:
        return 0
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                return oom_count(file.read())
        except OSError:
            continue
    return 0
