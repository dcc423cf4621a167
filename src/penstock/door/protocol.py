"""The messages between door and server on the control socket.

A Unix socket of type SEQPACKET keeps the borders of messages, says when the other side is gone, and
carries descriptors (SCM_RIGHTS). Each message is one JSON object with an ``op``.

    server → door   {"op": "serve"}                          give me sockets from now on
                    {"op": "table", "routes": {…}, "more": bool}   the whole table, in parts
                    {"op": "put", "name": …, "address": [host, port]}  ·  {"op": "drop", "name": …}
                    {"op": "took", "id": n}                  the socket is mine, forget it
                    {"op": "missed", "id": n}                it did not arrive (no descriptors left)
                    {"op": "info"}                           who are you?
                    {"op": "retire"}   stop listening, keep what is spliced, end with the last one
                    {"op": "stop"}     end now
    door → server   {"op": "socket", "id": n, "tls": bool}   with one descriptor
                    {"op": "info", …}                        pid, addresses, counters

The door keeps its own copy of a socket until ``took``: when a server dies with sockets on their way,
they go to the next one, and no client notices.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping

VERSION = 1

MAX_MESSAGE = 128 * 1024
"""Bytes of one message; well below the kernel's default send buffer of a Unix socket."""

TABLE_PART = 500
"""Routes in one ``table`` message: some 40 kB."""

_UCRED = struct.Struct("3i")


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process at the other end (SO_PEERCRED, unix(7))."""
    pid, uid, gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return pid, uid, gid


def encode(message: Mapping[str, object]) -> bytes:
    """One message as it goes over the socket."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> dict[str, object]:
    """One message; raises ValueError for anything that is none."""
    message = json.loads(data)
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ValueError("a message without op")
    return message
