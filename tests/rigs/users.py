"""Two Unix users who trust each other in nothing, made for a test session and removed after it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from rigs.needs import lacking

_NAME = re.compile(r"penstock-t(\d+)[abg]")


@pytest.fixture(scope="session")
def unix_users() -> Iterator[tuple[str, str]]:
    """The names of two fresh users. Needs root: skipped without, but not in CI."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        lacking("jobs of other Unix users can only be tested as root, with useradd")
    _remove_stale()
    names = f"penstock-t{os.getpid()}a", f"penstock-t{os.getpid()}b"
    try:
        for name in names:
            change_accounts("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
        yield names
    finally:
        for name in names:
            _remove(name)


@pytest.fixture(scope="session")
def gateway_account(unix_users: tuple[str, str]) -> Iterator[str]:
    """A third one, for a gateway that is not root."""
    name = f"penstock-t{os.getpid()}g"
    try:
        change_accounts("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
        yield name
    finally:
        _remove(name)


def _remove_stale() -> None:
    """Users of sessions that were killed."""
    for entry in pwd.getpwall():
        match = _NAME.fullmatch(entry.pw_name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            _remove(entry.pw_name)


def _remove(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return
    change_accounts("userdel", name)


def change_accounts(*command: str) -> None:
    """A command about users, with patience: another session may hold the lock of /etc/passwd, and the
    last process that was killed may take its time to go."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if not any(words in done.stderr for words in ("lock", "currently used by process")):
            break
        time.sleep(0.1)
    raise AssertionError(f"{' '.join(command)}: {done.stderr}")
