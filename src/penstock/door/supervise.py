"""The server's care for its door: start it, notice its end at once, start it again, replace it.

The door is started detached, in a session of its own: whatever ends the server, also kill -9,
leaves it alone, and the next server finds it by its control socket. A connection to that socket is
kept open for nothing but its end, which tells of a dead door in no time and at no cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.door.config import DoorConfig
from penstock.door.link import ask, connect
from penstock.model.errors import PenstockError

_log = logging.getLogger(__name__)

_LONGEST_PATH = 107  # unix(7): sun_path has 108 bytes, one for the end
_START_SECONDS = 20.0
_STEADY_SECONDS = 10.0
"""A door that lived as long as this is started again at once; one that dies sooner, with back-off."""
_BACK_OFF = 0.1
_BACK_OFF_MOST = 10.0


class DoorError(PenstockError):
    """The door cannot be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class DoorInfo:
    """A door that answers: its process and the addresses that it is bound to."""

    pid: int
    bound: tuple[tuple[str, int], ...]
    config: DoorConfig

    @classmethod
    def of(cls, answer: Mapping[str, object]) -> DoorInfo:
        """From the answer to ``info``; raises ValueError when it is none."""
        pid, bound, config = answer.get("pid"), answer.get("bound"), answer.get("config")
        if not (isinstance(pid, int) and isinstance(bound, list) and isinstance(config, str)):
            raise ValueError("The process at the door's control socket is no door.")
        places = tuple((str(host), int(port)) for host, port in bound)
        return cls(pid, places, DoorConfig.from_json(config))


async def find_door(control: str) -> DoorInfo | None:
    """The door that answers at this control socket, or None. Raises DoorError for a mute one."""
    if len(os.fsencode(control)) > _LONGEST_PATH:
        raise DoorError(
            f"The path of the control socket, {control}, is longer than the {_LONGEST_PATH} bytes "
            "that Linux allows. Use a state directory with a shorter path."
        )
    try:
        return DoorInfo.of(await ask(control, {"op": "info"}))
    except (FileNotFoundError, ConnectionError):
        return None
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise DoorError(
            f"What listens at {control} does not answer as a door does ({error or 'timed out'}). "
            "End that process and start again."
        ) from None


async def stop_door(control: str, *, seconds: float = 10.0) -> bool:
    """End the door at this control socket, with all its connections; whether there was one.

    Raises DoorError when it does not end in time.
    """
    return await _send_away(control, "stop", seconds)


async def _send_away(control: str, op: str, seconds: float) -> bool:
    """Tell the door to go and wait until its place is free."""
    try:
        await ask(control, {"op": op}, seconds) if op == "stop" else await _tell(control, op)
    except (FileNotFoundError, ConnectionError):
        return False
    except asyncio.TimeoutError:
        raise DoorError(f"The door at {control} did not end within {seconds:g} s.") from None
    end = time.monotonic() + seconds
    while os.path.lexists(control):
        if time.monotonic() > end:
            raise DoorError(f"The door at {control} did not end within {seconds:g} s.")
        await asyncio.sleep(0.01)
    return True


async def _tell(control: str, op: str) -> None:
    with contextlib.closing(connect(control)) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, b'{"op":"%s"}' % op.encode())


async def ensure_door(config: DoorConfig) -> DoorInfo:
    """A door with this configuration: the one that answers, or a new one.

    A door with another configuration is replaced: it stops listening, and keeps what it splices
    until the last connection ends. Raises DoorError.
    """
    found = await find_door(config.control)
    if found is not None:
        if _same(found, config):
            return found
        _log.info("replacing the door (pid %d): its configuration changed", found.pid)
        await _send_away(config.control, "retire", 10.0)
    await _start(config)
    started = await find_door(config.control)
    if started is None:
        raise DoorError(f"The door ended right after its start; see {config.log or 'its log'}.")
    return started


def _same(found: DoorInfo, config: DoorConfig) -> bool:
    """Whether a door does what is asked; it may have been asked for port 0 and then again for the
    port which that became."""
    return config in (found.config, replace(found.config, listen=found.bound))


async def _start(config: DoorConfig) -> None:
    """Start the process; returns when it serves. Raises DoorError with its own words."""
    reader, writer = os.pipe()
    try:
        command = [sys.executable, "-I", "-m", "penstock.door", config.to_json(), str(writer)]
        process = subprocess.Popen(  # noqa: ASYNC220  takes a millisecond, and must outlive us
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if config.log is None else subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(writer,),
            cwd="/",
        )
    except OSError as error:
        os.close(reader)
        raise DoorError(f"The door cannot be started: {error.strerror}.") from None
    finally:
        os.close(writer)
    _children.append(process)
    words = await _read_words(reader)
    if words != "ready":
        raise DoorError(words or f"The door ended at its start; see {config.log or 'its log'}.")


async def _read_words(reader: int) -> str:
    """What the new door says of itself, until it closes its end."""
    loop = asyncio.get_running_loop()
    os.set_blocking(reader, False)
    said = b""
    readable = asyncio.Event()
    loop.add_reader(reader, readable.set)
    try:
        while True:
            await asyncio.wait_for(readable.wait(), _START_SECONDS)
            readable.clear()
            try:
                part = os.read(reader, 4096)
            except BlockingIOError:
                continue
            if not part:
                return said.decode(errors="replace")
            said += part
    except asyncio.TimeoutError:
        raise DoorError(f"The door did not start within {_START_SECONDS:g} s.") from None
    finally:
        loop.remove_reader(reader)
        os.close(reader)


_children: list[subprocess.Popen[bytes]] = []
"""Doors that are our children, until they have ended and are reaped."""


def reap() -> int:
    """Forget the doors of ours that have ended; how many still run."""
    _children[:] = [child for child in _children if child.poll() is None]
    return len(_children)


class DoorKeeper:
    """Keeps one door alive. ``start`` once, then ``run`` until the server ends."""

    def __init__(self, config: DoorConfig, *, external: bool = False) -> None:
        """``external``: somebody else (systemd) starts and restarts the door; we only wait for it."""
        self._config = config
        self._external = external
        self.door: DoorInfo | None = None
        """The door that answered last."""
        self.restarts = 0
        """How often a door had to be started again; for metrics."""

    async def start(self) -> DoorInfo:
        """The door, running. Raises DoorError when it cannot be had."""
        self.door = await self._find_or_start()
        if 0 in {port for _, port in self._config.listen}:
            # A door that is started again must be found where the first one was.
            self._config = replace(self._config, listen=self.door.bound)
        return self.door

    async def run(self) -> None:
        """Watch until cancelled; the door lives on."""
        back_off = _BACK_OFF
        while True:
            began = time.monotonic()
            await self._watch()
            reap()
            lived = time.monotonic() - began
            back_off = _BACK_OFF if lived > _STEADY_SECONDS else min(_BACK_OFF_MOST, back_off * 2)
            if lived <= _STEADY_SECONDS:
                await asyncio.sleep(back_off / 2)
            try:
                self.door = await self._find_or_start()
                self.restarts += 1
                _log.warning("the door ended; a new one runs (pid %d)", self.door.pid)
            except DoorError as error:
                _log.error("no door: %s", error)

    async def _find_or_start(self) -> DoorInfo:
        if not self._external:
            return await ensure_door(self._config)
        found = await find_door(self._config.control)
        if found is None:
            raise DoorError(
                f"No door answers at {self._config.control}. Start it (`systemctl start "
                "penstock-door`, or `penstock door` with the server's configuration)."
            )
        if not _same(
            replace(found, config=replace(found.config, log=self._config.log)), self._config
        ):
            _log.warning(
                "the door (pid %d) runs with an older configuration: restart it (`systemctl restart "
                "penstock-door`) when its connections may end",
                found.pid,
            )
        return found

    async def _watch(self) -> None:
        """Return when the door is gone."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError), contextlib.closing(connect(self._config.control)) as s:
            await loop.sock_recv(s, 1)
