"""Where connections go: real TLS to schedulers, everything else to the server, the rest nowhere."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from penstock.door.sniff import DECODE_ERROR, INTERNAL_ERROR, UNRECOGNIZED_NAME, alert
from rigs.doors import (
    HELLO_A,
    PATIENCE,
    SNI,
    A,
    certificate,
    dial,
    echo,
    eventually,
    linked,
    plain_scheduler,
    receive,
    running_door,
    until_end,
)
from unit.door.hellos import body, extension, message, real_hello, records, server_name, vector


async def test_tls_goes_to_the_scheduler_with_its_own_certificates(tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path)
    seen: list[str | None] = []
    server_side.sni_callback = lambda sock, name, context: seen.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    scheduler = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
    port = scheduler.sockets[0].getsockname()[1]
    with running_door(tmp_path) as door:
        async with scheduler, linked(door, a=port):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", await door.port(), ssl=client_side, server_hostname=SNI + A
            )
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
    assert seen == [SNI + A]


@pytest.mark.parametrize(
    ("first", "is_tls"),
    [
        (b"GET /api/version HTTP/1.1\r\n\r\n", False),
        (b"\r\nOPTIONS * HTTP/1.1\r\n\r\n", False),
        (real_hello("gateway.example.org"), True),
        (real_hello(None), True),
    ],
)
async def test_all_else_goes_to_the_server_unread(
    tmp_path: Path, first: bytes, is_tls: bool
) -> None:
    with running_door(tmp_path) as door:
        async with linked(door) as server:
            with dial(await door.port(), first) as client:
                sock, tls = await server.take()
                with sock:
                    assert tls is is_tls
                    assert sock.getpeername() == client.getsockname()
                    assert sock.getsockname()[1] == await door.port()
                    sock.setblocking(True)
                    assert receive(sock, len(first)) == first
                    sock.sendall(b"answer")
                assert receive(client, 6) == b"answer"
            info = await door.until(lambda info: not info["connections"])
            assert info["handed"] == 1


async def test_an_unknown_name_is_refused_by_an_alert(tmp_path: Path) -> None:
    _, client_side = certificate(tmp_path)
    with running_door(tmp_path) as door:
        async with linked(door):
            for name in (A, "nonsense", ""):
                with dial(await door.port(), real_hello(SNI + name)) as client:
                    assert until_end(client) == alert(UNRECOGNIZED_NAME)
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await asyncio.open_connection(
                    "127.0.0.1", await door.port(), ssl=client_side, server_hostname=SNI + A
                )


async def test_a_dropped_route_is_unknown_and_open_connections_live(tmp_path: Path) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port) as server:
            with dial(await door.port(), HELLO_A + b"1") as client:
                assert receive(client, 1) == b"1"
                server.link.drop_route(A)
                await door.until(lambda info: info["routes"] == 0)
                with dial(await door.port(), HELLO_A) as other:
                    assert until_end(other) == alert(UNRECOGNIZED_NAME)
                client.sendall(b"2")
                assert receive(client, 1) == b"2"


async def test_an_unreachable_scheduler_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with running_door(tmp_path) as door:
        async with linked(door, a=port):
            with dial(await door.port(), HELLO_A) as client:
                assert until_end(client) == alert(INTERNAL_ERROR)
    assert "ECONNREFUSED" in door.log()


async def test_a_scheduler_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    # A listener whose backlog is full answers no SYN.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(0)
        port = mute.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        with running_door(tmp_path, connect_seconds=0.3) as door:
            async with linked(door, a=port):
                with dial(await door.port(), HELLO_A) as client:
                    assert until_end(client) == alert(INTERNAL_ERROR)
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH\r\n", b"\0\0\0", b"get / HTTP/1.1", b"\x16\x02"]
)
async def test_other_protocols_are_closed(tmp_path: Path, first: bytes) -> None:
    with running_door(tmp_path) as door:
        async with linked(door):
            with dial(await door.port(), first) as client:
                assert until_end(client) == b""


async def test_a_broken_hello_is_refused_by_an_alert(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        async with linked(door):
            bad = records(message(body(server_name(b"a\nlevel: error", b"b"))))
            for first in (b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\0\x04\x01\xff\xff\xff", bad):
                with dial(await door.port(), first) as client:
                    assert until_end(client) == alert(DECODE_ERROR)


async def test_a_hello_in_many_segments_and_records_is_waited_for(tmp_path: Path) -> None:
    shares = extension(51, vector(2, b"\x11\xec" + vector(2, b"k" * 1_800)))
    hello = records(message(body(shares + server_name((SNI + A).encode()))), 1, 2, 900)

    def serve(sock: socket.socket) -> None:
        receive(sock, len(hello) - len(HELLO_A))
        sock.sendall(b"whole")

    with running_door(tmp_path) as door, plain_scheduler(serve) as port:
        async with linked(door, a=port):
            with dial(await door.port()) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(hello), 7):
                    client.sendall(hello[at : at + 7])
                assert receive(client, 5) == b"whole"


async def test_routes_are_known_to_a_restarted_door_without_a_server(tmp_path: Path) -> None:
    with plain_scheduler(echo) as port:
        with running_door(tmp_path) as door:
            async with linked(door, a=port):
                pass
        with running_door(tmp_path) as door, dial(await door.port(), HELLO_A + b"x") as client:
            assert receive(client, 1) == b"x"


async def test_a_killed_door_kept_its_routes_too(tmp_path: Path) -> None:
    path = tmp_path / "run" / "routes.json"
    with running_door(tmp_path) as door:
        async with linked(door, a=1):

            async def written() -> bool:
                return path.exists()

            await eventually(written, bool)
            door.stop(9)
    with running_door(tmp_path) as door:
        assert (await door.info())["routes"] == 1


async def test_a_big_table_arrives_whole(tmp_path: Path) -> None:
    with running_door(tmp_path) as door:
        async with linked(door) as server:
            for number in range(3_000):
                server.link.set_route(f"{number:032x}", ("127.0.0.1", 1 + number))
            await door.until(lambda info: info["routes"] == 3_000)
            table = dict(server.link._routes)
        async with linked(door):
            pass  # a server that knows none
        async with linked(door) as server:
            server.link._routes.update(table)
            server.link._end()  # reconnect
            await door.until(lambda info: info["routes"] == 3_000)


async def test_several_addresses_and_ipv6(tmp_path: Path) -> None:
    listen = (("127.0.0.1", 0), ("::1", 0))
    with running_door(tmp_path, listen=listen) as door:
        async with linked(door) as server:
            ports = [await door.port(0), await door.port(1)]
            for host, port in zip(("127.0.0.1", "::1"), ports, strict=True):
                with socket.create_connection((host, port), PATIENCE) as client:
                    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    sock, _ = await server.take()
                    with sock:
                        assert sock.getsockname()[:2] == (host, port)
