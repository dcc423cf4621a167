"""As which Unix user a backend acts for the owner of a batch, and whom it must not be."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from penstock.model.errors import Rejected

_NOT_ROOT = "jobs must not run as root: log in as another user"


@dataclass(frozen=True, slots=True)
class Identity:
    """A Unix user of this machine. ``switch``: this process is somebody else and must become it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    switch: bool


def account(owner: str) -> pwd.struct_passwd:
    """The account of a user whom others act for. Raises Rejected when there is none, and for root."""
    entry = _entry(owner)
    if entry.pw_uid == 0:
        raise Rejected(_NOT_ROOT)
    return entry


def identify(owner: str, *, allow_root: bool, otherwise: str = "") -> Identity:
    """Who a job runs as. Raises Rejected for a user that this process may not or cannot become.

    ``otherwise``: what else could be done where it cannot, for the error's text.
    """
    entry = _entry(owner)
    me = os.geteuid()
    if me not in (0, entry.pw_uid):
        raise Rejected(
            f"this gateway runs as user {user_name(me)}, so it cannot start jobs as user {owner}: "
            f"it must run as root for that{otherwise}"
        )
    if entry.pw_uid == 0 and not allow_root:
        raise Rejected(_NOT_ROOT)
    if entry.pw_uid == me:
        return Identity(owner, me, os.getegid(), (), switch=False)
    groups = tuple(os.getgrouplist(owner, entry.pw_gid))
    return Identity(owner, entry.pw_uid, entry.pw_gid, groups, switch=True)


def _entry(owner: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(owner)
    except (KeyError, ValueError):
        raise Rejected(f"there is no user {owner!a} on the gateway's machine") from None


def user_name(uid: int) -> str:
    """The name of a user id, or the number when nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
