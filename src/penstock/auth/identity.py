"""From a name to a Unix identity, by the system's own databases (files, LDAP, SSSD).

Never from anything that the client sends. Answers are kept for a minute, because a directory
server that is slow must not be asked for every request.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from grp import getgrgid

from penstock.model.errors import Invalid

KEEP = 60.0
"""Seconds for which an answer is kept."""

_MOST = 10_000
_cache: dict[str, tuple[float, Identity]] = {}


@dataclass(frozen=True, slots=True)
class Identity:
    """A Unix user: ``groups`` are all group ids, the primary one included; ``home`` is a path."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def group_names(self) -> frozenset[str]:
        """Names of the groups; an id without a name is left out."""
        return frozenset(filter(None, map(_group_name, self.groups)))


def lookup(name: str, *, clock: Callable[[], float] = time.monotonic) -> Identity:
    """The identity of a Unix user name. May ask a directory server, so it may take a while.

    Raises Invalid when there is no such user, and never takes a similar one: the answer must bear
    exactly the name that was asked for (directories may ignore case).
    """
    now = clock()
    kept = _cache.get(name)
    if kept is not None and now < kept[0]:
        return kept[1]
    identity = _ask(name)
    if len(_cache) >= _MOST:
        _cache.clear()
    _cache[name] = (now + KEEP, identity)
    return identity


def _ask(name: str) -> Identity:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError, UnicodeError):
        entry = None
    if entry is None or entry.pw_name != name:
        raise Invalid(
            f"There is no Unix user {name[:40]!a} on the gateway's machine, as whom the jobs "
            "would run; ask its admins for an account."
        )
    groups = os.getgrouplist(name, entry.pw_gid)
    return Identity(name, entry.pw_uid, entry.pw_gid, tuple(sorted(set(groups))), entry.pw_dir)


def _group_name(gid: int) -> str | None:
    try:
        return getgrgid(gid).gr_name
    except KeyError:
        return None
