"""What stands behind the proxies in the bench: plain TCP at the speed of C, one port for each task.

``python bench/door_target.py HELLO_SIZE`` prints one JSON object with the ports, then serves until its
standard input ends. Every connection begins with a ClientHello, which is read and forgotten.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable

MESSAGE = 400
SOURCE_BLOCK = 1 << 20


def sink(sock: socket.socket) -> None:
    """Swallow as many bytes as 20 digits after the hello say, then one byte back. (The end of the
    stream would say it too, but the Go proxy closes the wrong halves after a half-close.)"""
    buffer = bytearray(1 << 20)
    left = int(_exactly(sock, 20))
    while left and (size := sock.recv_into(buffer)):
        left -= size
    sock.sendall(b"!")


def source(sock: socket.socket) -> None:
    """Send as many bytes as 20 digits after the hello ask for."""
    wanted = int(_exactly(sock, 20))
    send_many(sock, wanted)


def send_many(sock: socket.socket, size: int) -> None:
    """Send from this process's memory, as a scheduler or client does."""
    block = memoryview(bytes(SOURCE_BLOCK))
    while size:
        size -= sock.send(block[:size])


def echo(sock: socket.socket) -> None:
    """Answer each message with a message of the same size."""
    while data := sock.recv(MESSAGE):
        sock.sendall(data)


def once(sock: socket.socket) -> None:
    """One byte, to show that the connection stands."""
    sock.sendall(b"!")


def idle(sock: socket.socket) -> None:
    """One byte, then nothing until the client leaves."""
    sock.sendall(b"!")
    _held.append(sock.dup())


_held: list[socket.socket] = []


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError("closed early")
        data += part
    return data


def _serve(sock: socket.socket, task: Callable[[socket.socket], None], hello: int) -> None:
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            _exactly(sock, hello)
            task(sock)
        except OSError:
            pass


def _listen(task: Callable[[socket.socket], None], hello: int, threads: bool) -> int:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            if threads:
                threading.Thread(target=_serve, args=(sock, task, hello), daemon=True).start()
            else:
                _serve(sock, task, hello)

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    hello = int(sys.argv[1])
    ports = {
        task.__name__: _listen(task, hello, threads)
        for task, threads in (
            (sink, True), (source, True), (echo, True), (once, False), (idle, False),
        )
    }  # fmt: skip
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
