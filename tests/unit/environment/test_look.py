"""Looking for environments as another user, for real; and giving up."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from penstock.auth import Identity
from penstock.environment import look as looking
from penstock.environment.choice import Found, Place, Seen
from penstock.environment.look import look


def identity(name: str) -> Identity:
    entry = pwd.getpwnam(name)
    return Identity(name, entry.pw_uid, entry.pw_gid, (entry.pw_gid,), entry.pw_dir)


ME = Identity("me", os.geteuid(), os.getegid(), (), "/")


@pytest.fixture
def tree():
    """A directory that every user can pass."""
    with tempfile.TemporaryDirectory(prefix="pk-look-", dir="/tmp") as name:
        tree = Path(name)
        tree.chmod(0o755)
        for env in ("good", "it's $(touch x) \n*", "ana/.pixi/envs/default", "ana/.pixi/envs/test"):
            (tree / env / "bin").mkdir(parents=True)
            (tree / env / "bin" / "python").symlink_to("/not/on/this/machine")
        (tree / "bare").mkdir()
        yield tree


def at(path: Path) -> Place:
    return Place(str(path), str(path))


async def test_what_is_there(tree: Path) -> None:
    project = str(tree / "ana")
    expected = {
        at(tree / "good"): Found(Seen.THERE),
        at(tree / "it's $(touch x) \n*"): Found(Seen.THERE),
        at(tree / "bare"): Found(Seen.BARE),
        at(tree / "none"): Found(Seen.ABSENT),
        at(tree / "none" / "deeper"): Found(Seen.UNSEEN),
        Place("/no-such", "/no-such"): Found(Seen.UNSEEN),
        Place(project, f"{project}/.pixi/envs/default"): Found(Seen.THERE),
        Place(project, f"{project}/.pixi/envs/gpu"): Found(Seen.BARE, ("default", "test")),
    }
    assert await look(list(expected), ME) == expected
    assert not list(tree.glob("x"))
    assert await look([], ME) == {}


async def test_a_user_does_not_learn_what_others_have(unix_users, tree: Path) -> None:
    alice, bob = map(identity, unix_users)
    private = tree / "private"
    (private / "env" / "bin").mkdir(parents=True)
    (private / "env" / "bin" / "python").touch()
    os.chown(private, alice.uid, alice.gid)
    private.chmod(0o700)
    places = [at(private / "env"), at(private / "none")]
    assert [f.seen for f in (await look(places, alice)).values()] == [Seen.THERE, Seen.ABSENT]
    assert (await look([at(private)], bob))[at(private)] == Found(Seen.CLOSED)
    told = {(await look([each], bob))[each] for each in places}
    assert told == {Found(Seen.CLOSED)}, "the same whether it is there or not"


async def test_nobody_looks_for_others_without_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert await look([Place("/a", "/a")], ME) == {}


async def test_a_file_server_that_does_not_answer(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_SCRIPT", "exec sleep 1000")
    assert await look([at(tree / "good")], ME, patience=0.2) == {}
    while looking._looking:  # what was started is gone, too
        await looking.asyncio.sleep(0.01)
    monkeypatch.setattr(looking, "MOST", 0)
    assert await look([at(tree / "good")], ME) == {}
