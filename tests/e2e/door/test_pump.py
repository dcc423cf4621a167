"""Bytes between client and scheduler: whole, in order, with half-closes and slow readers."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import threading
from pathlib import Path

from rigs.doors import (
    HELLO_A,
    dial,
    echo,
    eventually,
    linked,
    plain_scheduler,
    receive,
    running_door,
    until_end,
)


async def test_the_clients_half_close_arrives_and_the_answer_comes_back(tmp_path: Path) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            with dial(await door.port(), HELLO_A) as client:
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                assert until_end(client) == b"questionthe end"
            await door.until(lambda info: not info["connections"])


async def test_the_schedulers_half_close_arrives_and_the_rest_goes_up(tmp_path: Path) -> None:
    got: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        got.append(until_end(sock))

    with running_door(tmp_path) as door, plain_scheduler(serve) as port:
        async with linked(door, a=port):
            with dial(await door.port(), HELLO_A) as client:
                assert until_end(client) == b"bye"
                client.sendall(b"last words" * 50_000)
            await door.until(lambda info: not info["connections"])
            await door.until(lambda info: got)  # the kernel may still hold what the door sent
    assert got == [b"last words" * 50_000]


async def test_an_end_together_with_the_hello_is_seen(tmp_path: Path) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            for _ in range(20):
                with dial(await door.port(), HELLO_A + b"x") as client:
                    client.shutdown(socket.SHUT_WR)
                    assert until_end(client) == b"xthe end"
            await door.until(lambda info: not info["connections"])


async def test_megabytes_in_odd_pieces_arrive_unchanged_both_ways(tmp_path: Path) -> None:
    """Small and bulk transfers alternate, so copy and splice take turns on one connection."""
    dice = random.Random(7)
    block = os.urandom(3 << 20)
    sizes = [dice.choice([1, 400, 65_535, 65_536, 65_537, 300_000, 3 << 20]) for _ in range(40)]

    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            with dial(await door.port(), HELLO_A) as client:
                sent = threading.Thread(
                    target=lambda: [client.sendall(block[:size]) for size in sizes], daemon=True
                )
                sent.start()
                for size in sizes:
                    assert (
                        hashlib.sha256(receive(client, size)).digest()
                        == hashlib.sha256(block[:size]).digest()
                    )
                sent.join()


async def test_a_slow_reader_slows_its_sender_not_the_door(tmp_path: Path) -> None:
    """A sender without end meets a reader that does not read: the door holds a pipe's worth."""
    offered = threading.Event()

    def flood(sock: socket.socket) -> None:
        sock.settimeout(0.5)
        try:
            while True:
                sock.sendall(b"f" * 65_536)
        except TimeoutError:
            offered.set()
            sock.settimeout(20)
            receive(sock, 1)

    with running_door(tmp_path) as door, plain_scheduler(flood) as port:
        async with linked(door, a=port):
            clients = [dial(await door.port(), HELLO_A) for _ in range(30)]
            assert offered.wait(20)
            resident = Path(f"/proc/{door.process.pid}/statm").read_text().split()[1]
            assert int(resident) * os.sysconf("SC_PAGE_SIZE") < 80 << 20
            with dial(await door.port(), b"GET / HTTP/1.1\r\n\r\n") as other:  # others go on
                await door.until(lambda info: info["handed"] == 1)
                other.close()
            for client in clients:
                assert receive(client, 1_000_000) == b"f" * 1_000_000
                client.sendall(b"x")
                client.close()
            await door.until(lambda info: not info["spliced"])


async def test_a_reset_ends_both_sides(tmp_path: Path) -> None:
    ended = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"!")
        try:
            until_end(sock)
        finally:
            ended.set()

    with running_door(tmp_path) as door, plain_scheduler(serve) as port:
        async with linked(door, a=port):
            client = dial(await door.port(), HELLO_A)
            receive(client, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert ended.wait(20)
            await door.until(lambda info: not info["connections"])


async def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    with running_door(tmp_path) as door, plain_scheduler(echo) as port:
        async with linked(door, a=port):
            files = Path(f"/proc/{door.process.pid}/fd")

            async def burst() -> None:
                for size in (10, 400_000):
                    clients = [dial(await door.port(), HELLO_A) for _ in range(20)]
                    for client in clients:
                        client.sendall(b"y" * size)
                        receive(client, size)
                        client.close()
                    with dial(await door.port(), b"nonsense"), dial(await door.port()):
                        pass
                await door.until(lambda info: not info["connections"])

            async def count() -> int:
                return len(list(files.iterdir()))

            await burst()  # which fills the pool of pipes
            first = await count()
            await burst()
            await eventually(count, lambda now: now <= first)
