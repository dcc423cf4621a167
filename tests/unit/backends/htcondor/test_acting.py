"""As whom HTCondor is asked, and what no name may do."""

from __future__ import annotations

import getpass
import os

import pytest

from penstock.backends.command import Commands
from penstock.backends.htcondor.acting import Acting, Actors
from penstock.model.errors import Rejected, Unavailable

SIGN = """#!/bin/sh
[ "$2" != broken@rig ] || { echo "ERROR: no such key" >&2; exit 1; }
echo "$@"
"""


@pytest.fixture
def commands(tmp_path):
    """A condor_token_create whose tokens say what it was asked."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "condor_token_create").write_text(SIGN)
    (place / "condor_token_create").chmod(0o755)
    return Commands("HTCondor", place, timeout=20)


def actors(commands, tmp_path, way, **more):
    return Actors(Acting(way, **more), commands, tmp_path / "tokens", allow_root=False)


@pytest.mark.parametrize("way", ["itself", "behalf", "token"])
@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "a\nb", "a@b", "root"])
async def test_names_that_nobody_has(commands, tmp_path, way, name):
    with pytest.raises(Rejected):
        await actors(commands, tmp_path, way).of(name)
    assert not (tmp_path / "tokens").exists()


async def test_one_becomes_the_user_itself(commands, tmp_path):
    me = getpass.getuser()
    actor = Actors(Acting(), commands, tmp_path, allow_root=True)
    got = await actor.of(me)
    assert (got.identity.uid, got.identity.switch, got.named) == (os.geteuid(), False, False)
    assert dict(got.environ) == {}


async def test_a_token_is_of_its_user_alone(commands, tmp_path):
    made = actors(commands, tmp_path, "token", domain="rig", key="mine", lifetime=60)
    alice, bob = await made.of("alice"), await made.of("bob")
    assert alice.identity is None
    place = tmp_path / "tokens" / "alice"
    assert alice.environ["_CONDOR_SEC_TOKEN_DIRECTORY"] == str(place)
    assert alice.environ["_CONDOR_SEC_PASSWORD_DIRECTORY"] == str(place), "no key but this token"
    assert "alice" not in " ".join(bob.environ.values())
    token = place / "token"
    assert token.read_text() == "-identity alice@rig -key mine -lifetime 60\n"
    assert (token.stat().st_mode & 0o777, place.stat().st_mode & 0o777) == (0o600, 0o700)
    made.forget("alice")
    assert not token.exists()
    made.forget("alice")
    await made.of("alice")
    assert token.exists()


async def test_who_looks_is_the_gateway(commands, tmp_path):
    made = await actors(commands, tmp_path, "token", domain="rig").looker()
    assert (tmp_path / "tokens" / getpass.getuser() / "token").exists()
    assert made.environ["_CONDOR_SEC_TOKEN_DIRECTORY"].endswith(f"/{getpass.getuser()}")
    assert dict((await actors(commands, tmp_path, "behalf").looker()).environ) == {}


async def test_a_token_that_cannot_be_had(commands, tmp_path):
    made = actors(commands, tmp_path, "token", domain="rig")
    with pytest.raises(Unavailable, match="no HTCondor token can be made for broken: no such key"):
        await made.of("broken")
    (tmp_path / "tokens").write_text("in the way")
    with pytest.raises(Unavailable, match="the token of alice cannot be kept"):
        await made.of("alice")
