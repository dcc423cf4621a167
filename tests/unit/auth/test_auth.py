"""Users, tokens, identities: what gets in, and what does not."""

from __future__ import annotations

import base64
import os
import pwd
import time
from pathlib import Path

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.auth import Signer, User, check_user_name, identity, lookup
from penstock.auth.base import PEER
from penstock.auth.basic import KEEP, BasicAuthenticator, parse_basic
from penstock.auth.passwords import PasswordFile, SharedPassword, parse, verify
from penstock.auth.throttle import FORGET, LONGEST, Throttle
from penstock.model.errors import Invalid, SettingsError, Unauthenticated

BCRYPT = bcrypt.hashpw(b"geheim", bcrypt.gensalt(4)).decode()
BCRYPT_2Y = "$2y$" + BCRYPT[4:]
ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("gehäim")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def headers(
    name: str, password: str, *, peer: str = "10.0.0.1", code: str = "utf-8"
) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode(code)).decode()
    return {"authorization": f"Basic {text}", PEER: peer}


# Names


@pytest.mark.parametrize(
    "name", ["anna", "anna@example.org", "DOMAIN\\anna", "a.b-c_d", "zoë", "x" * 128, "o'neil"]
)
def test_names_that_can_be(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "..",
        ".a",
        "-rf",
        "a b",
        "a\n",
        "a\0",
        "a\x7f",
        "a\u202eb",  # turns the reading direction
        "a\u200bb",  # is invisible
        "\ud800",
        "zoe\u0308",  # not normalised
        "a:b",
        "x" * 129,
    ],
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(Unauthenticated, match="cannot be a user name: it ") as caught:
        check_user_name(name)
    assert str(caught.value).isprintable()


# Tokens


def test_token_round_trip() -> None:
    signer = Signer(b"k" * 32)
    payload = {"name": "zoë", "groups": ["a", "b"], "admin": True}
    token = signer.sign("session", payload, 100.0)
    assert signer.verify("session", token, 99.9) == payload
    assert all(char.isascii() and (char.isalnum() or char in "_.-") for char in token)


def test_tokens_that_are_refused() -> None:
    signer = Signer(b"k" * 32)
    token = signer.sign("session", {"name": "anna"}, 100.0)
    body, signature = token.split(".")
    forged = Signer(b"x" * 32).sign("session", {"name": "root"}, 100.0)
    assert signer.verify("session", token, 100.0) is None
    assert signer.verify("dashboard", token, 1.0) is None
    for bad in [
        "",
        ".",
        "..",
        body,
        body + ".",
        "." + signature,
        token + "A",
        token + "=",
        token[:-1],
        forged,
        forged.split(".")[0] + "." + signature,
        "ä." + signature,
        "A" * 10_000,
    ]:
        assert signer.verify("session", bad, 1.0) is None, bad


@given(st.text(max_size=60))
def test_no_text_is_a_token(text: str) -> None:
    assert Signer(b"k" * 32).verify("session", text, 0.0) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError):
        Signer(b"short")


# Identity


def test_identity_of_this_user() -> None:
    entry = pwd.getpwuid(os.getuid())
    found = lookup(entry.pw_name)
    assert (found.name, found.uid, found.gid) == (entry.pw_name, entry.pw_uid, entry.pw_gid)
    assert found.home == entry.pw_dir
    assert entry.pw_gid in found.groups
    assert lookup(entry.pw_name) is found
    assert all(isinstance(name, str) for name in found.group_names)


def test_identity_is_asked_for_again_after_a_while() -> None:
    clock = Clock()
    name = pwd.getpwuid(os.getuid()).pw_name
    identity._cache.clear()
    first = lookup(name, clock=clock)
    clock.now += identity.KEEP
    assert lookup(name, clock=clock) is not first
    identity._cache.clear()


@pytest.mark.parametrize("name", ["no-such-user", "", "a\0b", "\ud800", "*", "x" * 100_000])
def test_unknown_unix_users(name: str) -> None:
    with pytest.raises(Invalid, match=r"There is no Unix user .* ask its admins"):
        lookup(name)


# Guessing


def test_throttle() -> None:
    throttle = Throttle(free=3)
    for _ in range(3):
        assert throttle.wait("k", 0.0) == 0.0
        throttle.failed("k", 0.0)
    assert throttle.wait("k", 0.0) == 1.0
    assert throttle.wait("k", 1.0) == 0.0
    throttle.failed("k", 1.0)
    assert throttle.wait("k", 1.5) == 1.5
    for _ in range(20):
        throttle.failed("k", 10.0)
    assert throttle.wait("k", 10.0) == LONGEST
    assert throttle.wait("other", 10.0) == 0.0
    assert throttle.wait("k", 10.0 + FORGET) == 0.0
    throttle.succeeded("k")
    assert throttle.wait("k", 10.0) == 0.0


# Passwords


@pytest.mark.parametrize("hashed", [BCRYPT, BCRYPT_2Y], ids=["2b", "2y"])
def test_bcrypt(hashed: str) -> None:
    assert verify(hashed, "geheim")
    assert not verify(hashed, "Geheim")
    assert not verify(hashed, "geheim\0")
    assert not verify(hashed, "")
    assert not verify("", "")


def test_bcrypt_of_a_long_password_as_htpasswd_makes_it() -> None:
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify(hashed, "x" * 100)


def test_argon2() -> None:
    assert verify(ARGON2, "gehäim")
    assert not verify(ARGON2, "geheim")


def test_password_file_tells_all_problems_and_no_hash() -> None:
    text = "\n".join(
        [
            "# users",
            "",
            f"anna:{BCRYPT_2Y}",
            f"bert:{ARGON2}",
            "carl:$apr1$abcdefgh$0123456789012345678901",
            "dora:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "emil:klartext",
            "no colon",
            "a/b:x",
            f"anna:{BCRYPT}",
            "fritz:$argon2id$broken",
            "gerd:$2y$10$short",
        ]
    )
    hashes, problems = parse(text)
    assert hashes == {"anna": BCRYPT_2Y, "bert": ARGON2}
    assert [problem.split(":")[0] for problem in problems] == [
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
    ]
    everything = "\n".join(problems)
    assert "MD5 (apr1), which is not supported" in everything
    assert "htpasswd -B" in everything
    for secret in ("0123456789", "W6ph", "klartext", BCRYPT):
        assert secret not in everything


def test_password_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"users cannot be read: No such file"):
        PasswordFile(tmp_path / "users")
    (tmp_path / "users").write_text("anna:$1$x$y\n")
    with pytest.raises(SettingsError, match=r"users, line 1: the hash of 'anna' is MD5"):
        PasswordFile(tmp_path / "users")


# HTTP Basic


async def test_password_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"anna:{BCRYPT}\n")
    basic = BasicAuthenticator(PasswordFile(path))
    assert await basic.authenticate(headers("anna", "geheim")) == User("anna")
    other = bcrypt.hashpw(b"neu", bcrypt.gensalt(4)).decode()
    path.write_text(f"anna:{other}\nbert:{BCRYPT}\n")
    with pytest.raises(Unauthenticated):
        await basic.authenticate(headers("anna", "geheim"))
    assert await basic.authenticate(headers("anna", "neu")) == User("anna")
    assert await basic.authenticate(headers("bert", "geheim")) == User("bert")
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        await basic.authenticate(headers("anna", "neu"))


async def test_a_checked_password_is_kept_for_half_a_day(tmp_path: Path) -> None:
    class Counting(SharedPassword):
        checks = 0

        def check(self, name: str, password: str) -> bool:
            self.checks += 1
            return super().check(name, password)

    clock, passwords = Clock(), Counting("geheim")
    basic = BasicAuthenticator(passwords, clock=clock)
    for _ in range(5):
        await basic.authenticate(headers("anna", "geheim"))
    assert passwords.checks == 1
    with pytest.raises(Unauthenticated):
        await basic.authenticate(headers("anna", "geheim2"))
    clock.now += KEEP
    await basic.authenticate(headers("anna", "geheim"))
    assert passwords.checks == 3


async def test_guessing_is_slowed_by_name_and_address() -> None:
    clock = Clock()
    basic = BasicAuthenticator(SharedPassword("geheim"), clock=clock)
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="is not correct"):
            await basic.authenticate(headers("anna", "falsch"))
    with pytest.raises(Unauthenticated, match=r"Too many failed logins .* try again in 1 s"):
        await basic.authenticate(headers("anna", "geheim"))
    await basic.authenticate(headers("anna", "geheim", peer="10.0.0.2"))
    await basic.authenticate(headers("bert", "geheim"))
    clock.now += 1.0
    await basic.authenticate(headers("anna", "geheim"))


async def test_one_address_cannot_guess_under_many_names() -> None:
    basic = BasicAuthenticator(SharedPassword("geheim"), clock=Clock())
    for n in range(50):
        with pytest.raises(Unauthenticated, match="is not correct"):
            await basic.authenticate(headers(f"user{n}", "falsch"))
    with pytest.raises(Unauthenticated, match="Too many failed logins"):
        await basic.authenticate(headers("anna", "geheim"))


async def test_one_user_only() -> None:
    basic = BasicAuthenticator(SharedPassword("geheim", only="anna"))
    assert await basic.authenticate(headers("anna", "geheim")) == User("anna")
    with pytest.raises(Unauthenticated):
        await basic.authenticate(headers("root", "geheim"))


def test_an_empty_shared_password_is_refused() -> None:
    with pytest.raises(SettingsError, match="empty"):
        SharedPassword("")


@pytest.mark.parametrize("code", ["utf-8", "latin-1"])
def test_both_encodings_of_the_header(code: str) -> None:
    assert parse_basic(headers("zoë", "gehäim:x", code=code)["authorization"]) == (
        "zoë",
        "gehäim:x",
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Bearer abc",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"a:" + b"x" * 5000).decode(),
        "Basic ä",
    ],
)
def test_headers_that_are_not_basic(header: str) -> None:
    with pytest.raises(Unauthenticated):
        parse_basic(header)


def test_an_unknown_name_costs_a_hash_too(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"anna:{bcrypt.hashpw(b'x', bcrypt.gensalt(8)).decode()}\n")
    passwords = PasswordFile(path)
    spent = []
    for name in ("anna", "nobody"):
        start = time.thread_time()
        assert not passwords.check(name, "y")
        spent.append(time.thread_time() - start)
    assert spent[1] > spent[0] / 10  # without the decoy it is a ten-thousandth
