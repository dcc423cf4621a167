"""ClientHellos for tests: real ones from ``ssl``, and ones that are built byte by byte."""

from __future__ import annotations

import contextlib
import functools
import ssl
import struct

# RFC 8701: values that mean nothing and must be ignored.
GREASE = 0x1A1A


@functools.cache
def real_hello(name: str | None, *, tls12: bool = False) -> bytes:
    """What OpenSSL sends first when it connects to ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def vector(width: int, data: bytes) -> bytes:
    """A length of ``width`` bytes and the data."""
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    """One extension."""
    return struct.pack(">H", kind) + vector(2, body)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    """A server_name extension (RFC 6066 §3)."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def body(extensions: bytes | None, *, session: bytes = b"s" * 32) -> bytes:
    """A ClientHello without the header of the handshake message."""
    suites = struct.pack(">HH", GREASE, 0x1301)
    fixed = b"\x03\x03" + b"r" * 32 + vector(1, session) + vector(2, suites) + vector(1, b"\0")
    return fixed if extensions is None else fixed + vector(2, extensions)


def message(hello: bytes) -> bytes:
    """The handshake message of a hello's body."""
    return b"\x01" + vector(3, hello)


def records(data: bytes, *sizes: int) -> bytes:
    """Handshake records: of these sizes first, then one with the rest."""
    out = b""
    for size in sizes:
        if data[:size]:
            out += b"\x16\x03\x01" + vector(2, data[:size])
        data = data[size:]
    return out + b"\x16\x03\x01" + vector(2, data) if data else out
