"""A batch system's commands: bounded in time, and not waited for when they only wait themselves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from penstock.backends.command import Commands
from penstock.model.errors import Unavailable
from rigs.backends import until


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands("the system", tmp_path, timeout=20.0)


def install(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sbatch"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_what_says_that_it_waits_is_not_waited_for(
    tmp_path: Path, commands: Commands
) -> None:
    install(tmp_path, "cat >/dev/null; echo 'queue full, sleeping and retrying' >&2; exec sleep 60")
    done = await commands.run("sbatch", data=b"x" * 300_000, hopeless="sleeping and retrying")
    assert done.code == -9
    assert "queue full" in done.errors


async def test_all_is_passed_on_of_what_does_not(tmp_path: Path, commands: Commands) -> None:
    install(tmp_path, "wc -c; echo warning >&2; exit 3")
    for hopeless in ("", "sleeping"):
        done = await commands.run("sbatch", data=b"x" * 300_000, hopeless=hopeless)
        assert (done.code, done.output.strip(), done.errors) == (3, b"300000", "warning\n")


async def test_a_command_that_reads_nothing_is_no_failure_of_ours(
    tmp_path: Path, commands: Commands
) -> None:
    install(tmp_path, "exec 0<&-; echo no >&2; exit 1")
    done = await commands.run("sbatch", data=b"x" * 3_000_000, hopeless="sleeping")
    assert (done.code, done.errors) == (1, "no\n")


async def test_time_is_bounded(tmp_path: Path) -> None:
    install(tmp_path, "echo slow >&2; exec sleep 60")
    done = await Commands("the system", tmp_path, timeout=0.5).run("sbatch", hopeless="sleeping")
    assert (done.code, done.errors) == (None, "slow\n")


async def test_what_was_given_up_is_gone_at_the_end(tmp_path: Path, commands: Commands) -> None:
    install(tmp_path, f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60")
    given_up = asyncio.ensure_future(commands.run("sbatch"))
    await until(lambda: (tmp_path / "pid").exists() or None, "it runs")
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await commands.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_what_is_not_there(commands: Commands) -> None:
    with pytest.raises(Unavailable, match=r"there is no no-such-command in .*: is the system inst"):
        await commands.run("no-such-command")
