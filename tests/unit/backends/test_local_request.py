"""Who a batch runs as, and what Linux could not run."""

from __future__ import annotations

import getpass
import os

import pytest

from penstock.backends.local.request import LONGEST, check
from penstock.backends.owner import identify
from penstock.model.errors import Rejected
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Role
from rigs.backends import LocalRig, make_batch

BATCH = Batch(BatchId("0123abcd", "0" * 32, 0), "alice", Role.WORKER, 1, ("python3", "x.py"))


def changed(**changes: object) -> Batch:
    fields = {name: getattr(BATCH, name) for name in Batch.__slots__}
    return Batch(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_plain_batch() -> None:
    assert check(BATCH, most=10) == 0
    longest = "x" * (LONGEST - 1 - len("A="))
    assert check(changed(env={"A": longest}, extras={"nice": 5}), most=10) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 0}, "1 to 10 jobs, not 0"),
        ({"count": 11}, "1 to 10 jobs, not 11"),
        ({"command": ()}, "the command is empty"),
        ({"command": ("",)}, "the command is empty"),
        ({"command": ("python3", "a\0b")}, "holds a NUL character"),
        ({"command": ("python3", "\ud800")}, "not text that UTF-8 can hold"),
        ({"env": {"A": "a\0b"}}, "environment variable 'A' holds a NUL character"),
        ({"env": {"A\0": ""}}, "cannot be the name of an environment variable"),
        ({"env": {"": "x"}}, "'' cannot be the name of an environment variable"),
        ({"env": {"A=B": "x"}}, "'A=B' cannot be the name of an environment variable"),
        ({"env": {"A": "x" * (LONGEST - 2)}}, "has 131072 bytes, and Linux takes at most 131071"),
        ({"env": {"A": "é" * 10**6}}, "has 2000002 bytes"),
        ({"files": {"../x": b""}}, "'../x' cannot be the name of a file"),
        ({"files": {"..": b""}}, "'..' cannot be the name of a file"),
        ({"files": {"": b""}}, "'' cannot be the name of a file"),
        ({"files": {"a\0": b""}}, "cannot be the name of a file"),
        ({"files": {"output.log": b""}}, "'output.log' cannot be the name of a file"),
        ({"extras": {"partition": "cms"}}, "no setting 'partition'"),
        ({"extras": {"nice": -1}}, "nice must be a whole number from 0 to 19, not -1"),
        ({"extras": {"nice": "5"}}, "not '5'"),
    ],
)
def test_what_cannot_run(changes: dict[str, object], words: str) -> None:
    with pytest.raises(Rejected) as caught:
        check(changed(**changes), most=10)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-user", "", "a\0b", "../x", "-1", "ü"])
def test_nobody(name: str) -> None:
    with pytest.raises(Rejected, match="there is no user"):
        identify(name, allow_root=True)


def test_oneself() -> None:
    me = identify(getpass.getuser(), allow_root=True)
    assert (me.uid, me.gid, me.switch) == (os.geteuid(), os.getegid(), False)


def test_root_only_when_allowed(unix_users: tuple[str, str]) -> None:
    with pytest.raises(Rejected, match="must not run as root"):
        identify("root", allow_root=False)
    assert identify("root", allow_root=True).uid == 0
    alice = identify(unix_users[0], allow_root=False)
    assert alice.switch
    assert alice.uid != 0
    assert alice.gid in alice.groups


async def test_root_is_refused_before_anything_is_made(unix_users: tuple[str, str]) -> None:
    rig = LocalRig("root")
    try:
        with pytest.raises(Rejected, match="must not run as root"):
            await rig.open(allow_root=False).submit(make_batch(rig))
        assert not rig.jobs.exists()
    finally:
        await rig.aclose()
