from __future__ import annotations

import base64
import json
import subprocess

import pytest

from penstock.client.condor_files import (
    BEGIN,
    END,
    NO_COMMAND,
    NOT_MEMBER,
    SetupError,
    answer,
    diff,
    overridden,
    read_token,
    remote_command,
    settings,
    why_ssh_failed,
    with_block,
)

VALUES = settings("schedd1", "pool.example.org:9618", "IDTOKENS, FS")


def token(**claims: object) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({}, claims)
    ]
    return ".".join([*parts, "c2ln"])


def test_a_block_goes_to_the_end_and_takes_nothing_away() -> None:
    before = "# mine\nA = 1"
    once = with_block(before, VALUES)
    assert once.startswith("# mine\nA = 1\n\n" + BEGIN + "\nCONDOR_HOST = pool.example.org:9618\n")
    assert once.endswith(END + "\n")
    assert with_block(once, VALUES) == once
    assert with_block("", VALUES).startswith(BEGIN)
    other = with_block(once, settings("schedd2", "pool", "FS"))
    assert "schedd1" not in other
    assert other.count(BEGIN) == 1
    assert diff("x", once, once) == ""
    assert "+SCHEDD_HOST = schedd2" in diff("x", once, other)


def test_lines_after_the_block_stay_and_the_block_moves_behind_them() -> None:
    once = with_block("A = 1\n", VALUES) + "SCHEDD_HOST = mine\n"
    again = with_block(once, VALUES)
    assert again.index("SCHEDD_HOST = mine") < again.index(BEGIN)
    assert "A = 1\n" in again
    assert with_block(again, VALUES) == again


def test_a_block_without_an_end_is_nobodys_to_cut() -> None:
    with pytest.raises(SetupError, match="has no"):
        with_block(f"A = 1\n{BEGIN}\nB = 2\n", VALUES)


def test_lines_that_lose_are_named_and_those_of_the_block_are_not() -> None:
    text = with_block(
        "schedd_host = old\n# SCHEDD_HOST = x\nCONDOR_HOST = pool.example.org:9618\n", VALUES
    )
    assert overridden(text, settings("new", "pool.example.org:9618", "FS")) == [
        "line 1: schedd_host = old"
    ]


def test_a_token_tells_whose_it_is() -> None:
    found = read_token(token(sub="alice@x", iss="pool", exp=2_000_000_000) + "\n")
    assert (found.identity, found.issuer, found.expires) == ("alice@x", "pool", 2e9)
    assert "alice@x at pool, expires 2033-" in str(found)
    assert str(read_token(token(sub="a", iss="b"))).endswith("never expires")


@pytest.mark.parametrize(
    "text",
    ["", "hello", "a.b", "a.b.c", token(sub="x"), "e y.J.z", token(sub="a", iss="b", exp="x")],
)
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(SetupError, match="no HTCondor token"):
        read_token(text)


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (255, "Host key verification failed.", "host key of node was not accepted"),
        (255, "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nx", "host key of node"),
        (255, "a@node: Permission denied (publickey).", "node refused the login"),
        (255, "ssh: connect to host node port 22: Connection refused", "did not reach node"),
        (1, "no schedd\n", "node gave no token: the command ended with code 1 (no schedd)"),
        (1, "", "ended with code 1"),
    ],
)
def test_ssh_is_understood(code: int, said: str, words: str) -> None:
    assert words in why_ssh_failed("node", code, said)


def run(fetch: list[str], group: str | None) -> tuple[int, str]:
    command = remote_command(fetch, group)
    done = subprocess.run(["sh", "-c", f"echo noise; {command}"], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_the_remote_command_says_what_is_asked_and_quotes_it_all() -> None:
    code, output = run(["echo", "a b'$(id)"], None)
    assert (code, answer(output, "token")) == (0, "a b'$(id)")
    assert answer(output, "groups")
    assert answer("noise", "token") == ""
    assert run(["/nowhere/fetch; id"], None)[0] == NO_COMMAND
    assert run(["false"], None)[0] == 1
    mine = answer(output, "groups").split()[0]
    assert run(["echo", "x"], mine)[0] == 0
    assert run(["echo", "x"], "no'body; id")[0] == NOT_MEMBER
