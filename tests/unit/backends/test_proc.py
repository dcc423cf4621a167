"""The process table: parsing, claims, and signals that never hit a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from penstock.backends.local.proc import (
    Process,
    ProcessTable,
    descendants,
    look,
    parse_environ,
    parse_stat,
    send,
    uptime_ticks,
)
from rigs.backends import until

STAT = b"%d (%s) S 41 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 18446744073709551615\n"


@pytest.mark.parametrize("name", [b"python3", b"a b", b"x) R 1 2 (y", b"))((", b"", b"\xff\n"])
def test_stat_with_any_name(name: bytes) -> None:
    assert parse_stat(STAT % (42, name)) == Process(42, 41, 39, 987654, "S")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"", ("", None)),
        (b"A=1\0PENSTOCK_TAG=p-x\0PENSTOCK_INDEX=12\0", ("p-x", 12)),
        (b"PENSTOCK_TAG=p-x\0", ("p-x", None)),
        (b"PENSTOCK_TAG=p-x\0PENSTOCK_INDEX=-1\0", ("p-x", None)),
        (b"PENSTOCK_TAG=p-x\0PENSTOCK_INDEX=999999999999\0", ("p-x", None)),
        (b"X=PENSTOCK_TAG=no\0XPENSTOCK_TAG=no\0", ("", None)),
        (b"PENSTOCK_TAG=\xff\0", ("\N{REPLACEMENT CHARACTER}", None)),
    ],
)
def test_claims(environ: bytes, expected: tuple[str, int | None]) -> None:
    assert parse_environ(environ) == expected


def test_descendants_of_a_tree_with_a_loop() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 7, 7: 6}
    table = {pid: Process(pid, parent, 0, 0, "S") for pid, parent in parents.items()}
    assert descendants(table, 2) == {3, 4}
    assert descendants(table, 6) == {7, 6}
    assert descendants(table, 4) == set()


def test_this_process() -> None:
    me = look(os.getpid())
    assert me is not None
    assert (me.pid, me.ppid, me.sid) == (os.getpid(), os.getppid(), os.getsid(0))
    assert 0 < me.start <= uptime_ticks()
    assert look(2**22 + 1) is None


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PENSTOCK_TAG": "p-test", "PENSTOCK_INDEX": "3"}
    process = subprocess.Popen(["/bin/sleep", "1000"], env=environ)
    yield process
    process.kill()
    process.wait()


def test_scan_finds_claims_and_their_user(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable()
    for _ in range(2):
        found = table.scan()[sleeper.pid]
        assert (found.tag, found.index, found.uid) == ("p-test", 3, os.getuid())
        assert found.alive
    assert os.getpid() in table.scan()


async def test_a_process_is_read_again_after_exec() -> None:
    """A job shows its launcher's environment until it runs its program."""
    code = (
        "import os, sys; sys.stdin.read(1); "
        "os.execve('/bin/sleep', ['sleep', '1000'], {'PENSTOCK_TAG': 'b', 'PENSTOCK_INDEX': '0'})"
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, env={"PENSTOCK_TAG": "a"}
    )
    with process:
        table = ProcessTable()
        await until(lambda: table.scan()[process.pid].tag == "a" or None, "it runs")
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        await until(lambda: table.scan()[process.pid].tag == "b" or None, "the new claim")
        process.kill()


def test_a_signal_hits_only_the_very_process(sleeper: subprocess.Popen[bytes]) -> None:
    process = look(sleeper.pid)
    assert process is not None
    assert send([(process.pid, process.start + 1), (process.pid, 0)], signal.SIGKILL) == []
    assert sleeper.poll() is None
    assert send([(process.pid, process.start), (2**22 + 1, 1)], signal.SIGTERM) == []
    assert sleeper.wait(30) == -signal.SIGTERM
    assert send([(process.pid, process.start)], signal.SIGTERM) == []


def test_a_kernel_without_pidfd(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    process = look(sleeper.pid)
    assert process is not None
    send([(process.pid, process.start + 1)], signal.SIGKILL)
    assert sleeper.poll() is None
    send([(process.pid, process.start)], signal.SIGTERM)
    assert sleeper.wait(30) == -signal.SIGTERM
