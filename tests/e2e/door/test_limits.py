"""Slow, many and greedy clients, and a machine without descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.doors import (
    HELLO_A,
    SNI,
    A,
    dial,
    echo,
    linked,
    plain_scheduler,
    receive,
    running_door,
    until_end,
)
from rigs.needs import lacking
from unit.door.hellos import real_hello

IDLE = 2_000


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    if before[1] < 4 * IDLE:
        lacking("this user may not open enough files")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("first", [b"", HELLO_A[:1], HELLO_A[:-1], b"GE"])
async def test_who_does_not_say_what_he_wants_is_closed(tmp_path: Path, first: bytes) -> None:
    with running_door(tmp_path, sniff_seconds=0.3) as door:
        with dial(await door.port(), first) as client:
            assert until_end(client) == b""
        await door.until(lambda info: not info["connections"])


async def test_slow_hellos_cost_no_time(tmp_path: Path) -> None:
    """300 clients send one byte after the other: the door must sleep, not look at each byte."""

    def used(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with running_door(tmp_path) as door:
        clients = [dial(await door.port(), HELLO_A[:6]) for _ in range(300)]
        await door.until(lambda info: info["sniffing"] == 300)
        before = used(door.process.pid)
        for at in range(6, 106):
            for client in clients:
                client.send(HELLO_A[at : at + 1])
        with dial(await door.port(), real_hello(SNI + A)) as prompt:
            assert until_end(prompt)
        # 30,000 bytes with a look (some 10 µs) at each would be far above this.
        assert used(door.process.pid) - before < 0.25
        for client in clients:
            client.close()
        await door.until(lambda info: not info["connections"])


async def test_one_address_cannot_take_all(tmp_path: Path) -> None:
    with running_door(tmp_path, per_address=3) as door:
        clients = [dial(await door.port()) for _ in range(3)]
        await door.until(lambda info: info["sniffing"] == 3)
        with dial(await door.port()) as fourth, contextlib.suppress(ConnectionResetError):
            assert until_end(fourth) == b""
        clients.pop().close()
        await door.until(lambda info: info["connections"] == 2)
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", await door.port()))
        with dial(await door.port()) as again, other:
            await door.until(lambda info: info["sniffing"] == 4)
            assert again
        for client in clients:
            client.close()
        info = await door.until(lambda info: not info["connections"])
        assert info["refused"] == {"too many of one address": 1}


@pytest.mark.usefixtures("many_files")
async def test_two_thousand_idle_connections_are_cheap(tmp_path: Path) -> None:
    def hold(sock: socket.socket) -> None:
        sock.sendall(b"!")
        until_end(sock)

    with running_door(tmp_path) as door, plain_scheduler(hold) as port:
        async with linked(door, a=port):
            where = await door.port()
            clients = []
            for _ in range(IDLE):
                clients.append(dial(where, HELLO_A))
                assert receive(clients[-1], 1) == b"!"
            assert (await door.info())["spliced"] == IDLE
            pages = int(Path(f"/proc/{door.process.pid}/statm").read_text().split()[1])
            assert pages * os.sysconf("SC_PAGE_SIZE") < 50 << 20
            for client in clients:
                client.close()
            await door.until(lambda info: not info["connections"])


async def test_without_descriptors_clients_wait_and_the_server_can_still_connect(
    tmp_path: Path,
) -> None:
    with running_door(tmp_path, files=160) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            where = await door.port()
            clients = [dial(where, HELLO_A + b"x") for _ in range(60)]
            info = await door.until(lambda info: info["connections"] >= 32)
            assert info["connections"] < 60
            async with linked(door, a=port):
                pass
            for client in clients:  # each gets its turn when one before it leaves
                assert receive(client, 1) == b"x"
                client.close()
            await door.until(lambda info: not info["connections"])
    events = [json.loads(line)["event"] for line in door.log().splitlines()]
    assert "not accepting" in events


async def test_exhausted_descriptors_end_nothing(tmp_path: Path) -> None:
    """The limit falls below what is open: accept and socket fail until it rises again."""
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            where = await door.port()
            with dial(where, HELLO_A + b"1") as early:
                assert receive(early, 1) == b"1"
                pid = door.process.pid
                before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
                late = dial(where, HELLO_A + b"2")
                while "cannot accept" not in door.log():
                    await asyncio.sleep(0.01)
                early.sendall(b"3")
                assert receive(early, 1) == b"3"
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
                assert receive(late, 1) == b"2"
                late.close()


async def test_the_log_holds_no_forged_line(tmp_path: Path) -> None:
    name = (SNI + '"},{"level":"error').ljust(len(SNI + A), "!")
    forged = HELLO_A.replace((SNI + A).encode(), name.encode())
    with running_door(tmp_path) as door:
        async with linked(door):
            with dial(await door.port(), forged) as client:
                until_end(client)
    lines = [json.loads(line) for line in door.log().splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert [line["name"] for line in lines if line["event"] == "refused"] == [name]
