"""From a batch to what its launcher is told: who runs it, and whether Linux could run it at all."""

from __future__ import annotations

import json
from binascii import b2a_base64

from penstock.backends.owner import Identity
from penstock.model.errors import Rejected
from penstock.model.job import Batch

LOG = "output.log"
"""Standard output and error of a job, in its directory."""

LONGEST = 131_072
"""Bytes of one argument or ``KEY=value`` that Linux takes (MAX_ARG_STRLEN, execve(2))."""

NAMES = frozenset({"nice"})


def check(batch: Batch, *, most: int) -> int:
    """Whether Linux can run this at all; returns its niceness. Raises Rejected with the reason."""
    if not 1 <= batch.count <= most:
        raise Rejected(f"a batch on this machine has 1 to {most} jobs, not {batch.count}")
    if not batch.command or not batch.command[0]:
        raise Rejected("the command is empty")
    for word in batch.command:
        _check_text(word, f"argument {word[:40]!r}", word)
    for key, value in batch.env.items():
        if not key or "=" in key or "\0" in key:
            raise Rejected(f"{key!r} cannot be the name of an environment variable")
        _check_text(value, f"environment variable {key!r}", f"{key}={value}")
    for name in batch.files:
        if name in ("", ".", "..", LOG) or "/" in name or "\0" in name or len(name) > 200:
            raise Rejected(f"{name!r} cannot be the name of a file of a job")
    unknown = sorted(batch.extras.keys() - NAMES)
    if unknown:
        raise Rejected(f"jobs on this machine have no setting {unknown[0]!r}; they have: nice")
    nice = batch.extras.get("nice", 0)
    if not isinstance(nice, int) or not 0 <= nice <= 19:
        raise Rejected(f"nice must be a whole number from 0 to 19, not {nice!r}")
    return nice


def _check_text(text: str, what: str, whole: str) -> None:
    if "\0" in text:
        raise Rejected(f"{what} holds a NUL character, which no program can be given")
    try:
        size = len(whole.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise Rejected(f"{what} is not text that UTF-8 can hold") from None
    if size >= LONGEST:
        raise Rejected(f"{what} has {size} bytes, and Linux takes at most {LONGEST - 1}")


def encode(
    batch: Batch,
    identity: Identity,
    *,
    nice: int,
    directory: str,
    boot: str,
    deadline: float,
    socket: str,
) -> bytes:
    """What the launcher reads, see ``penstock.backends.launcher``.

    ``deadline``: on the monotonic clock (one for all processes), after which it starts nothing.
    """
    return json.dumps(
        {
            "tag": batch.id.tag,
            "boot": boot,
            "owner": identity.name,
            "uid": identity.uid,
            "identity": [identity.uid, identity.gid] if identity.switch else None,
            "groups": identity.groups,
            "count": batch.count,
            "nice": nice,
            "directory": _base64(directory),
            "command": [_base64(word) for word in batch.command],
            "env": [(_base64(key), _base64(value)) for key, value in batch.env.items()],
            "files": [(_base64(name), _bytes(content)) for name, content in batch.files.items()],
            "deadline": deadline,
            "socket": socket,
        }
    ).encode("ascii")


def _base64(text: str) -> str:
    return _bytes(text.encode("utf-8", "surrogateescape"))


def _bytes(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")
