"""From a batch to what its launcher is told: who runs it, and whether Linux could run it at all."""

from __future__ import annotations

import json
import os
import pwd
from binascii import b2a_base64
from dataclasses import dataclass

from penstock.model.errors import Rejected
from penstock.model.job import Batch

LOG = "output.log"
"""Standard output and error of a job, in its directory."""

LONGEST = 131_072
"""Bytes of one argument or ``KEY=value`` that Linux takes (MAX_ARG_STRLEN, execve(2))."""

NAMES = frozenset({"nice"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A Unix user of this machine. ``switch``: the launcher must take on this identity first."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    switch: bool


def identify(owner: str, *, allow_root: bool) -> Identity:
    """Who a job runs as. Raises Rejected for a user that this server may not or cannot be."""
    try:
        entry = pwd.getpwnam(owner)
    except (KeyError, ValueError):
        raise Rejected(f"there is no user {owner!r} on this machine") from None
    me = os.geteuid()
    if me == entry.pw_uid:
        if me == 0 and not allow_root:
            raise Rejected("jobs on this machine must not run as root: log in as another user")
        return Identity(owner, me, os.getegid(), (), switch=False)
    if me != 0:
        mine = user_name(me)
        raise Rejected(
            f"this gateway runs as user {mine}, so it cannot start jobs as user {owner}: "
            f"it must run as root for that"
        )
    if entry.pw_uid == 0:
        raise Rejected("jobs on this machine must not run as root: log in as another user")
    groups = tuple(os.getgrouplist(owner, entry.pw_gid))
    return Identity(owner, entry.pw_uid, entry.pw_gid, groups, switch=True)


def user_name(uid: int) -> str:
    """The name of a user id, or the number when nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
