"""The server's care for the door: found, started, watched, replaced, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.door.config import DoorConfig
from penstock.door.process import EXIT_CANNOT_LISTEN
from penstock.door.supervise import (
    DoorError,
    DoorKeeper,
    ensure_door,
    find_door,
    reap,
    stop_door,
)
from rigs.doors import (
    HELLO_A,
    PATIENCE,
    A,
    Server,
    dial,
    echo,
    eventually,
    plain_scheduler,
    receive,
)


@contextlib.asynccontextmanager
async def doors(state: Path) -> AsyncIterator[DoorConfig]:
    """A configuration; whatever door serves it at the end is stopped."""
    config = DoorConfig.in_state(state, (("127.0.0.1", 0),))
    try:
        yield config
    finally:
        await stop_door(config.control)
        assert await find_door(config.control) is None


@pytest.fixture(autouse=True)
async def reaped() -> AsyncIterator[None]:
    """No door that a test started is left, not even as a zombie."""
    yield
    await eventually(lambda: asyncio.sleep(0, reap()), lambda living: living == 0)


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie of ours does not)."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def test_a_door_is_started_once_and_found_again(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        assert await find_door(config.control) is None
        first = await DoorKeeper(config).start()
        assert await DoorKeeper(config).start() == first
        fixed = replace(config, listen=first.bound)
        assert await ensure_door(fixed) == first
        assert os.getsid(first.pid) == first.pid != os.getsid(0)
        assert Path(str(config.log)).stat().st_mode & 0o777 == 0o600
    await eventually(lambda: asyncio.sleep(0, alive(first.pid)), lambda lives: not lives)
    assert not await stop_door(config.control)


async def test_a_killed_door_is_back_at_once_with_its_routes(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        keeper = DoorKeeper(config)
        first = await keeper.start()
        server = Server(config.control)
        with plain_scheduler(echo) as port:
            server.link.set_route(A, ("127.0.0.1", port))
            tasks = [asyncio.create_task(keeper.run()), asyncio.create_task(server.link.run())]

            async def routes() -> object:
                return (await keeper_info(config))["routes"]

            await eventually(routes, lambda count: count == 1)
            os.kill(first.pid, signal.SIGKILL)

            async def again() -> bool:
                port = first.bound[0][1]
                with contextlib.suppress(OSError), dial(port, HELLO_A + b"x") as client:
                    return receive(client, 1) == b"x"
                return False

            await eventually(again, bool)
            second = await find_door(config.control)
            assert second is not None
            assert second.bound == first.bound
            assert second.pid != first.pid
            await eventually(lambda: asyncio.sleep(0, keeper.restarts), lambda count: count == 1)
            await asyncio.wait_for(server.link.connected.wait(), PATIENCE)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def keeper_info(config: DoorConfig) -> dict[str, object]:
    from penstock.door.link import ask

    return await ask(config.control, {"op": "info"})


async def test_another_address_replaces_the_door_and_connections_live_on(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        old = await ensure_door(config)
        server = Server(config.control)
        with plain_scheduler(echo) as port:
            server.link.set_route(A, ("127.0.0.1", port))
            running = asyncio.create_task(server.link.run())

            async def routes() -> object:
                return (await keeper_info(config))["routes"]

            await eventually(routes, lambda count: count == 1)
            with dial(old.bound[0][1], HELLO_A + b"1") as client:
                assert receive(client, 1) == b"1"
                new = await ensure_door(replace(config, listen=(("127.0.0.1", 0), ("::1", 0))))
                assert new.pid != old.pid
                assert len(new.bound) == 2
                with pytest.raises(ConnectionRefusedError):
                    dial(old.bound[0][1])
                client.sendall(b"2")
                assert receive(client, 1) == b"2"
                with dial(new.bound[0][1], HELLO_A + b"3") as other:
                    assert receive(other, 1) == b"3"
                assert alive(old.pid)
            await eventually(lambda: asyncio.sleep(0, alive(old.pid)), lambda lives: not lives)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_door_on_the_same_port_can_be_replaced(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        old = await ensure_door(config)
        with dial(old.bound[0][1], b"GET / HTTP/1.1\r\n\r\n"):
            new = await ensure_door(replace(config, listen=old.bound, sniff_seconds=5.0))
            assert new.pid != old.pid
            assert new.bound == old.bound
    await eventually(lambda: asyncio.sleep(0, alive(old.pid)), lambda lives: not lives)


async def test_a_retiring_door_lets_its_server_go_to_the_new_one(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        old = await ensure_door(config)
        server = Server(config.control)
        with plain_scheduler(echo) as port:
            server.link.set_route(A, ("127.0.0.1", port))
            running = asyncio.create_task(server.link.run())

            async def servers() -> object:
                info = await keeper_info(config)
                return info["servers"] and info["routes"]

            await eventually(servers, bool)
            with dial(old.bound[0][1], HELLO_A + b"1") as client:
                assert receive(client, 1) == b"1"
                await ensure_door(replace(config, listen=old.bound, sniff_seconds=5.0))
                await eventually(servers, bool)
                with dial(old.bound[0][1], b"GET / HTTP/1.1\r\n\r\n"):
                    (await server.take())[0].close()
                client.sendall(b"2")
                assert receive(client, 1) == b"2"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = DoorConfig.in_state(tmp_path, (("127.0.0.1", port),))
        with pytest.raises(DoorError, match=rf"127\.0\.0\.1:{port} is in use .* another port"):
            await ensure_door(config)
        command = [sys.executable, "-I", "-m", "penstock.door", config.to_json()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == EXIT_CANNOT_LISTEN
        assert ended.stderr.startswith(f"penstock door: The address 127.0.0.1:{port} is in use")
    assert await find_door(config.control) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listen": (("192.0.2.1", 0),)}, "192.0.2.1:0 cannot be listened at"),
        ({"listen": (("no.such.host.invalid", 1),)}, "no.such.host.invalid:1"),
        ({"control": "/proc/nowhere/run/door.sock"}, "/proc/nowhere/run cannot be used"),
        ({"control": f"/tmp/{'x' * 120}.sock"}, "107 bytes"),
    ],
)
async def test_other_obstacles_are_named(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    config = replace(DoorConfig.in_state(tmp_path, (("127.0.0.1", 0),)), **changes)  # type: ignore[arg-type]
    with pytest.raises(DoorError, match=words):
        await ensure_door(config)


async def test_two_doors_cannot_share_a_place(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        await ensure_door(config)
        command = [sys.executable, "-I", "-m", "penstock.door", config.to_json()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == EXIT_CANNOT_LISTEN
        assert "Another door already serves" in ended.stderr


async def test_a_false_process_at_the_control_socket_is_named(tmp_path: Path) -> None:
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)
                sock.send(b'{"op":"info","pid":"x"}')

        answering = asyncio.create_task(asyncio.to_thread(answer))
        with pytest.raises(DoorError, match="does not answer as a door"):
            await find_door(str(path))
        await answering


async def test_the_door_outlives_its_server(tmp_path: Path) -> None:
    """The server is killed without mercy; its door serves on, and the next server finds it."""
    script = (
        "import asyncio, sys; from penstock.door.config import DoorConfig;"
        "from penstock.door.supervise import ensure_door;"
        "print(asyncio.run(ensure_door(DoorConfig.from_json(sys.argv[1]))).pid, flush=True);"
        "sys.stdin.read()"
    )
    async with doors(tmp_path) as config:
        command = [sys.executable, "-c", script, config.to_json()]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as server:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            os.killpg(server.pid, signal.SIGKILL)
        found = await DoorKeeper(config).start()
        assert found.pid == pid


async def test_an_external_door_is_waited_for_not_started(tmp_path: Path) -> None:
    async with doors(tmp_path) as config:
        keeper = DoorKeeper(config, external=True)
        with pytest.raises(DoorError, match="systemctl start"):
            await keeper.start()
        started = await ensure_door(config)
        assert (await keeper.start()).pid == started.pid
