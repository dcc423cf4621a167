"""What do the first bytes of a connection say: TLS or not, and which server name does it ask for?

The door must know before it takes a byte out of the socket, so this parser works on peeked bytes
that start at the first byte of the connection, and says how many it needs when they do not suffice.
It is no TLS implementation: ``ssl`` cannot be asked for a name without making a whole handshake
object for each connection, and would answer bad input itself. What is read here is bounded
(``LIMIT``), and every length in it is distrusted.

Facts: RFC 8446 (TLS 1.3) §4.1.2 ClientHello, §4.2 extensions, §5.1 records and their limits;
RFC 6066 §3 server_name; RFC 8701 GREASE (unknown values anywhere, to be skipped).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

LIMIT = 32 * 1024
"""Most bytes of a hello, record headers included. Post-quantum hellos have about 2 kB; browsers'
largest (several key shares, long tickets, encrypted hello) stay below 8 kB."""

_MAX_RECORDS = 64
"""Records that one hello may be spread over. Each is one wake-up and one walk over all before it, so
a hello of a byte a record would be an attack; real ones have one record, seldom a handful."""

_RECORD_HEADER = 5
_MAX_RECORD = 1 << 14  # RFC 8446 §5.1: a plaintext record's length MUST NOT exceed 2^14
_HANDSHAKE = 0x16
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


@dataclass(frozen=True, slots=True)
class NeedMore:
    """No verdict yet; not before ``size`` bytes (counted from the first) are there."""

    size: int


@dataclass(frozen=True, slots=True)
class NotTls:
    """The first bytes are no TLS handshake record."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A whole ClientHello; ``name`` is the server name in lower case, None when it names none."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Malformed:
    """It began as TLS and then broke the rules; ``reason`` says which one."""

    reason: str


Verdict: TypeAlias = NeedMore | NotTls | Hello | Malformed

NOT_TLS = NotTls()
_NO_NAME = Hello(None)


class _Broken(Exception):
    """A length or value that the protocol forbids."""


def parse(data: bytes) -> Verdict:
    """Judge the first bytes of a connection; never raises, reads each byte once."""
    if not data:
        return NeedMore(1)
    if data[0] != _HANDSHAKE or (len(data) > 1 and data[1] != 3):
        return NOT_TLS
    try:
        hello = _join(data)
        return hello if isinstance(hello, NeedMore) else _read(hello)
    except _Broken as error:
        return Malformed(str(error))


def _join(data: bytes) -> bytes | NeedMore:
    """The body of the ClientHello, put together from one record or more (RFC 8446 §5.1)."""
    message = b""
    at = 0
    for _ in range(_MAX_RECORDS):
        if len(data) < at + _RECORD_HEADER:
            return _within(at + _RECORD_HEADER)
        end = at + _RECORD_HEADER + _record_length(data, at)
        message += data[at + _RECORD_HEADER : end]
        if len(message) >= 4:
            wanted = 4 + _hello_length(message)
            if len(message) >= wanted:
                return message[4:wanted]
        if len(data) < end:
            return _within(end)
        at = end
    raise _Broken(f"the hello is spread over more than {_MAX_RECORDS} records")


def _within(size: int) -> NeedMore:
    if size > LIMIT:
        raise _Broken(f"the hello is longer than {LIMIT} bytes")
    return NeedMore(size)


def _record_length(data: bytes, at: int) -> int:
    """Length of the handshake record whose header starts at ``at`` (RFC 8446 §5.1)."""
    if data[at] != _HANDSHAKE or data[at + 1] != 3:
        raise _Broken("another record stands in the middle of the hello")
    length = data[at + 3] << 8 | data[at + 4]
    if length > _MAX_RECORD:
        raise _Broken(f"a record claims {length} bytes, more than TLS allows")
    if length == 0:
        raise _Broken("a handshake record is empty")
    return length


def _hello_length(head: bytes) -> int:
    """Length that the header of the handshake message claims, when it is a hello and not too long."""
    if head[0] != _CLIENT_HELLO:
        raise _Broken(f"the first message is of type {head[0]}, not a ClientHello")
    length = head[1] << 16 | head[2] << 8 | head[3]
    if length > LIMIT - _RECORD_HEADER - 4:
        raise _Broken(f"the hello claims {length} bytes, more than {LIMIT}")
    return length


def _read(hello: bytes) -> Hello:
    """Walk over the fields of a whole ClientHello to its extensions (RFC 8446 §4.1.2)."""
    at = 34  # legacy_version, random
    at = _skip(hello, at, 1, "session id", most=32)
    at = _skip(hello, at, 2, "cipher suites", least=2)
    at = _skip(hello, at, 1, "compression methods", least=1)
    if at == len(hello):
        return _NO_NAME  # before TLS 1.3 a hello may have no extensions at all
    if _skip(hello, at, 2, "extensions") != len(hello):
        raise _Broken("bytes follow the extensions")
    return _extensions(hello, at + 2)


def _skip(data: bytes, at: int, width: int, what: str, least: int = 0, most: int = 1 << 16) -> int:
    """Where the vector at ``at`` ends, whose length stands in ``width`` bytes."""
    body = at + width
    if body > len(data):
        raise _Broken(f"the hello ends before its {what}")
    length = data[at] if width == 1 else data[at] << 8 | data[at + 1]
    if not least <= length <= most or body + length > len(data):
        raise _Broken(f"the length of its {what} is wrong")
    return body + length


def _extensions(hello: bytes, at: int) -> Hello:
    """Find the server name among the extensions; all others are skipped, whatever they are."""
    found: Hello | None = None
    total = len(hello)
    while at < total:
        if at + 4 > total:
            raise _Broken("an extension is cut off")
        body = at + 4
        end = body + (hello[at + 2] << 8 | hello[at + 3])
        if end > total:
            raise _Broken("an extension is longer than the hello")
        if hello[at] == 0 and hello[at + 1] == _SERVER_NAME:
            if found is not None:  # RFC 8446 §4.2: no two extensions of a type
                raise _Broken("it has two server_name extensions")
            found = Hello(_server_name(hello[body:end]))
        at = end
    return found or _NO_NAME


def _server_name(body: bytes) -> str | None:
    """The one host name of a server_name extension (RFC 6066 §3)."""
    if _skip(body, 0, 2, "server name list", least=1) != len(body):
        raise _Broken("bytes follow the server name list")
    name: str | None = None
    at = 2
    while at < len(body):
        end = _skip(body, at + 1, 2, "server name", least=1)
        if body[at] == _HOST_NAME:
            if name is not None:  # RFC 6066 §3: not more than one name of a type
                raise _Broken("it asks for several host names")
            name = _host_name(body[at + 3 : end])
        at = end
    return name


def _host_name(raw: bytes) -> str:
    """RFC 6066 §3: ASCII. Nothing else than printable characters leaves this module."""
    if len(raw) > 255 or not all(0x20 < byte < 0x7F for byte in raw):
        raise _Broken("its server name is not a host name in ASCII")
    return raw.decode("ascii").lower()
