"""A door process of one's own, a server's link to it, and things to connect to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from penstock.door.config import DoorConfig
from penstock.door.link import DoorLink, ask
from penstock.door.supervise import DoorInfo
from unit.door.hellos import real_hello

PATIENCE = 20.0
"""Seconds that anything may take before the test gives up."""

A, B = "a" * 32, "b" * 32
SNI = "daskgateway-"
HELLO_A = real_hello(SNI + A)


class RunningDoor:
    """A door process and how to talk to it."""

    def __init__(self, config: DoorConfig, process: subprocess.Popen[bytes]) -> None:
        self.config = config
        self.process = process

    async def info(self) -> dict[str, object]:
        """Its answer to ``info``."""
        return await ask(self.config.control, {"op": "info"})

    async def until(self, condition: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """Its facts, as soon as they are so."""
        return await eventually(self.info, condition)

    async def port(self, index: int = 0) -> int:
        """Where it listens."""
        return DoorInfo.of(await self.info()).bound[index][1]

    def log(self) -> str:
        """What it wrote."""
        return Path(str(self.config.log)).read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


async def eventually(look, condition):  # type: ignore[no-untyped-def]
    """Look again and again until the condition holds; returns the last look."""
    end = time.monotonic() + PATIENCE
    while True:
        got = await look()
        if condition(got):
            return got
        assert time.monotonic() < end, f"still {got}"
        await asyncio.sleep(0.01)


def start_door(config: DoorConfig, files: int | None = None) -> RunningDoor:
    """Start a door and wait until it serves; ``files``: its limit of descriptors."""
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-m", "penstock.door", config.to_json(), str(writer)]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, pass_fds=(writer,), stderr=subprocess.DEVNULL)
    os.close(writer)
    with open(reader) as said:
        words = said.read()
    assert words == "ready", words
    return RunningDoor(config, process)


@contextlib.contextmanager
def running_door(
    state: Path, *, files: int | None = None, **changes: object
) -> Iterator[RunningDoor]:
    """A door on an ephemeral port of 127.0.0.1, for as long as the block."""
    base = DoorConfig.in_state(state, (("127.0.0.1", 0),))
    values = {name: getattr(base, name) for name in base.__slots__}
    door = start_door(DoorConfig(**{**values, **changes}), files)
    try:
        yield door
    finally:
        door.stop()


class Server:
    """The server's end: takes sockets from the door and keeps them."""

    def __init__(self, control: str) -> None:
        self.taken: asyncio.Queue[tuple[socket.socket, bool]] = asyncio.Queue()
        self.link = DoorLink(control, lambda sock, tls: self.taken.put_nowait((sock, tls)))

    async def take(self) -> tuple[socket.socket, bool]:
        """The next socket."""
        return await asyncio.wait_for(self.taken.get(), PATIENCE)


@contextlib.asynccontextmanager
async def linked(door: RunningDoor, **routes: int) -> AsyncIterator[Server]:
    """A server linked to the door, with routes to ports of 127.0.0.1 (a=…, b=…: repeated letters)."""
    server = Server(door.config.control)
    for letter, port in routes.items():
        server.link.set_route(letter * 32, ("127.0.0.1", port))
    running = asyncio.create_task(server.link.run())
    try:
        await asyncio.wait_for(server.link.connected.wait(), PATIENCE)
        await door.until(lambda info: info["servers"] and info["routes"] == len(routes))
        yield server
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        while not server.taken.empty():
            server.taken.get_nowait()[0].close()


@contextlib.contextmanager
def plain_scheduler(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server with a thread for each connection, the hello read already; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    threads: list[threading.Thread] = []
    socks: list[socket.socket] = []

    def handle(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            receive(sock, len(HELLO_A))
            serve(sock)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                socks.append(sock)
                threads.append(threading.Thread(target=handle, args=(sock,), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(PATIENCE)
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(PATIENCE)


def echo(sock: socket.socket) -> None:
    """Send back everything until the end, then say so."""
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.sendall(b"the end")


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionError(f"the stream ended after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def until_end(sock: socket.socket) -> bytes:
    """All bytes until the other side's end."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def dial(port: int, first: bytes = b"") -> socket.socket:
    """A blocking connection with a deadline, after its first bytes."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.sendall(first)
    return sock


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's) contexts with a fresh self-signed certificate for both, as Dask has it."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dask")])
    now = datetime.now(timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "dask.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    for context in (server, client):
        context.load_cert_chain(pem)
        context.load_verify_locations(pem)
        context.verify_mode = ssl.CERT_REQUIRED
    return server, client
