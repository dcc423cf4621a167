"""Sockets on their way to servers that are away, slow, dying, or not ours."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.door import protocol
from penstock.door.link import ask, connect
from penstock.door.sniff import AWAY_RESPONSE
from rigs.doors import (
    HELLO_A,
    PATIENCE,
    Server,
    dial,
    echo,
    linked,
    plain_scheduler,
    receive,
    running_door,
    until_end,
)
from rigs.needs import need_root
from unit.door.hellos import real_hello

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

SERVER = """
import asyncio, sys
from penstock.door.link import DoorLink

async def serve(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"served")

def take(sock, tls):
    loop = asyncio.get_running_loop()
    def protocol():
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, serve)
    tasks.append(loop.create_task(loop.connect_accepted_socket(protocol, sock)))

tasks = []
link = DoorLink(sys.argv[1], take)
link.set_route("a" * 32, ("127.0.0.1", int(sys.argv[2])))
asyncio.run(link.run())
"""


def start_server(control: str, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVER, control, str(port)])


async def test_a_killed_server_breaks_no_spliced_connection_and_requests_wait(
    tmp_path: Path,
) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        server = start_server(door.config.control, port)
        await door.until(lambda info: info["servers"] and info["routes"])
        with dial(await door.port(), HELLO_A) as spliced, dial(await door.port(), REQUEST) as old:
            assert receive(old, 6) == b"served"
            spliced.sendall(b"1")
            assert receive(spliced, 1) == b"1"
            server.kill()
            server.wait()
            await door.until(lambda info: not info["servers"])
            waiting = [dial(await door.port(), REQUEST) for _ in range(5)]
            await door.until(lambda info: info["pending"] == 5)
            spliced.sendall(b"2")
            assert receive(spliced, 1) == b"2"
            with dial(await door.port(), HELLO_A + b"3") as fresh:
                assert receive(fresh, 1) == b"3"
            server = start_server(door.config.control, port)
            for client in waiting:
                assert receive(client, 6) == b"served"
                client.close()
        server.terminate()
        server.wait()


async def test_who_waited_first_is_handed_over_first(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        clients = []
        for number in range(8):
            clients.append(dial(await door.port(), REQUEST))
            await door.until(lambda info, number=number: info["pending"] == number + 1)
        async with linked(door) as server:
            for client in clients:
                sock, _ = await server.take()
                assert sock.getpeername() == client.getsockname()
                sock.close()
                client.close()
        info = await door.until(lambda info: not info["connections"])
        assert info["handed"] == 8


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    with running_door(tmp_path, pending_seconds=0.3) as door:
        with (
            dial(await door.port(), REQUEST) as http,
            dial(await door.port(), real_hello(None)) as tls,
        ):
            answer = until_end(http)
            assert answer == AWAY_RESPONSE
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert until_end(tls) == b""
        await door.until(lambda info: not info["connections"])


async def test_not_too_many_wait(tmp_path: Path) -> None:
    with running_door(tmp_path, pending_limit=2) as door:
        two = [dial(await door.port(), REQUEST) for _ in range(2)]
        await door.until(lambda info: info["pending"] == 2)
        with dial(await door.port(), REQUEST) as third:
            assert until_end(third) == AWAY_RESPONSE
        async with linked(door) as server:
            for client in two:
                (await server.take())[0].close()
                client.close()


async def test_sockets_that_a_dying_server_did_not_take_go_to_the_next(tmp_path: Path) -> None:
    """The worst moments: sent but not received, and received but not acknowledged."""
    with running_door(tmp_path) as door:
        dying = connect(door.config.control)
        dying.send(protocol.encode({"op": "serve"}))
        await door.until(lambda info: info["servers"] == 1)
        clients = [dial(await door.port(), REQUEST) for _ in range(3)]
        await door.until(lambda info: info["pending"] == 3)
        dying.setblocking(True)
        _, rights, _, _ = socket.recv_fds(dying, 9999, 1)
        dying.close()
        os.close(rights[0])
        await door.until(lambda info: not info["servers"])
        async with linked(door) as server:
            for client in clients:
                sock, _ = await server.take()
                assert sock.getpeername() == client.getsockname()
                sock.setblocking(True)
                assert receive(sock, len(REQUEST)) == REQUEST
                sock.sendall(b"ok")
                sock.close()
                assert receive(client, 2) == b"ok"
                client.close()


async def test_a_server_that_stopped_reading_does_not_keep_clients(tmp_path: Path) -> None:
    with running_door(tmp_path, pending_seconds=0.5) as door:
        stuck = connect(door.config.control)
        stuck.send(protocol.encode({"op": "serve"}))
        await door.until(lambda info: info["servers"] == 1)
        clients = [dial(await door.port(), REQUEST) for _ in range(600)]
        for client in clients:
            assert until_end(client) == AWAY_RESPONSE
            client.close()
        stuck.close()
        await door.until(lambda info: not info["connections"])


async def test_a_socket_that_did_not_arrive_is_sent_again(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        sock = connect(door.config.control)
        sock.setblocking(True)
        sock.settimeout(PATIENCE)
        sock.send(protocol.encode({"op": "serve"}))
        with dial(await door.port(), REQUEST) as client, sock:
            data, rights, _, _ = await asyncio.to_thread(socket.recv_fds, sock, 9999, 1)
            os.close(rights[0])
            sock.send(protocol.encode({"op": "missed", "id": protocol.decode(data)["id"]}))
            data, rights, _, _ = await asyncio.to_thread(socket.recv_fds, sock, 9999, 1)
            with socket.socket(fileno=rights[0]) as again:
                assert again.getpeername() == client.getsockname()


async def test_a_client_that_leaves_is_not_handed_over(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        client = dial(await door.port(), REQUEST)
        await door.until(lambda info: info["pending"] == 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await door.until(lambda info: not info["connections"] and not info["pending"])


async def test_the_newest_server_gets_the_sockets(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        async with linked(door) as old:
            new = Server(door.config.control)
            running = asyncio.create_task(new.link.run())
            await door.until(lambda info: info["servers"] == 2)
            with dial(await door.port(), REQUEST):
                (await new.take())[0].close()
            running.cancel()
            await door.until(lambda info: info["servers"] == 1)
            with dial(await door.port(), REQUEST):
                (await old.take())[0].close()


async def test_bad_messages_do_not_end_the_door(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        async with linked(door, a=1):
            bad = connect(door.config.control)
            for message in (
                b"\xff", b"{}", b"[]", b'{"op":"put"}', b'{"op":"took","id":"x"}', b'{"op":"took"}',
                b'{"op":"put","name":"../x","address":["127.0.0.1",1]}', b'{"op":"table","routes":[]}',
                b'{"op":"table","routes":{"x":["::1",1]},"more":false}', b'{"op":"novelty"}',
                b'{"op":"took","id":99}',
            ):  # fmt: skip
                bad.send(message)
            bad.close()
            assert (await door.info())["routes"] == 1


async def test_another_user_cannot_speak_to_the_door(tmp_path: Path) -> None:
    need_root("only root can become another user")
    with running_door(tmp_path) as door:
        control = Path(door.config.control)
        assert control.stat().st_mode & 0o777 == 0o600
        assert control.parent.stat().st_mode & 0o777 == 0o700
        for path in (control, *control.parents):  # even where the file modes would let them in
            if path != Path("/") and path != Path("/tmp"):
                path.chmod(0o777)
        script = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534);"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]);"
            's.settimeout(10); s.send(b\'{"op":"stop"}\'); sys.exit(len(s.recv(100)))'
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(control), stderr=subprocess.DEVNULL
        )
        await child.wait()
        assert "control connection refused" in door.log()
        assert door.process.poll() is None
        await door.info()


async def test_a_false_door_gets_no_routes(tmp_path: Path) -> None:
    need_root("only root can become another user")
    path = tmp_path / "door.sock"
    for parent in (tmp_path, *tmp_path.parents):
        if parent not in (Path("/"), Path("/tmp")):
            parent.chmod(0o777)
    script = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); s.listen();"
        "print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            with pytest.raises(PermissionError, match="belongs to user 65534"):
                await ask(str(path), {"op": "info"})
        finally:
            child.communicate()


async def test_signals(tmp_path: Path) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            door.process.send_signal(signal.SIGHUP)
            with dial(await door.port(), HELLO_A + b"x") as client:
                assert receive(client, 1) == b"x"
                assert await asyncio.to_thread(door.stop) == 0
                assert until_end(client) == b""
        assert not Path(door.config.control).exists()
        assert '"ended"' in door.log()
