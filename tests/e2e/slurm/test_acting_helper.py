"""The rule of sudo and the helper behind it, tried by a gateway that has turned against its users."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.model.ids import BatchId, new_cluster_name
from rigs.gateway import wait_until
from rigs.slurm_acting import as_user, ask_helper, become

ALIVE = "PD,R,CF,CG,S"


@pytest.fixture
def helper(ruled_helper: Path) -> Path:
    """The helper, with the rule that lets the gateway's account start it."""
    return ruled_helper


@pytest.fixture
def foreign(slurm, unix_users):
    """A job of alice's own, which is none of Penstock's."""
    words = (
        "sbatch",
        "--parsable",
        "--array=0",
        "--comment=mine",
        "--chdir=/",
        "--output=/dev/null",
    )
    done = as_user(unix_users[0], *words, "--wrap=sleep 1000", env=slurm.environ)
    base = done.stdout.strip()
    slurm.wait_for(lambda: ("RUNNING",) in slurm.squeue("State"), "it runs")
    yield base
    slurm.cancel_all()


def test_the_rule_opens_nothing_but_the_helper(helper, gateway_account, unix_users):
    alice, bob = unix_users

    def tries(caller: str, *words: str) -> str:
        done = as_user(caller, "sudo", "-n", *words)
        assert done.returncode != 0
        return done.stderr

    account = gateway_account
    refused = ("a password is required", "is not allowed to execute")
    for words in (
        ("-u", alice, "/bin/sh", "-c", "id"),
        ("-u", alice, str(helper), "--help"),
        ("-u", "root", str(helper)),
        ("-u", "daemon", str(helper)),
        ("-u", "#0", str(helper)),
        ("/bin/sh",),
        ("-u", alice, "-e", "/etc/hosts"),
        ("-u", alice, "PYTHONPATH=/tmp", str(helper)),
        ("-u", alice, str(helper.with_name("rule"))),
    ):
        assert any(said in tries(account, *words) for said in refused) or "not allowed" in tries(
            account, *words
        ), words
    assert any(said in tries(bob, "-u", alice, str(helper)) for said in refused)
    told, _ = ask_helper([str(helper)], {"verb": "check"})
    assert "never runs as root" in told["refused"]


def through_sudo(account: str, user: str, helper: Path) -> list[str]:
    return [*become(account), "sudo", "-n", "-u", user, "--", str(helper)]


def test_the_helper_trusts_the_gateway_in_nothing(
    helper, gateway_account, unix_users, slurm, foreign
):
    """Whoever has the gateway's account knows the helper's source, and sends it what they like."""
    alice, bob = unix_users
    command = through_sudo(gateway_account, alice, helper)
    tag = BatchId("0123abcd", new_cluster_name(), 0).tag
    script = b"#!/bin/sh\nsleep 1000\n"
    good = ["--array=0-1", f"--comment={tag}", "--chdir=/", "--output=/dev/null"]

    def refusal(request, data=b""):
        told, errors = ask_helper(command, request, data)
        assert told is not None, errors
        return told.get("refused", "")

    def submit(*words):
        return {"verb": "submit", "words": list(words)}

    assert "none of Penstock's" in refusal({"verb": "cancel", "arrays": {foreign: "0"}})
    for words, said in {
        (*good, "--wrap=id"): "--wrap is not allowed here",
        (*good, "--uid=0"): "--uid is not allowed here",
        (*good, "--output=/home/x"): "--output must be /dev/null",
        (*good, "--chdir=/root"): "--chdir must be /",
        (*good, "--export-file=/etc/hosts"): "--export-file is not allowed",
        (*good, "--comm=mine"): "--comm is not allowed",
        (*good, "/home/alice/script"): "not an option",
        (*good, "--account=a\nb"): "not an option",
        ("--array=0-1", "--comment=mine"): "not a tag",
        ("--array=0-1",): "not a tag",
        ("--array=0-1", "--test-only=no"): "--test-only must be alone",
        (f"--comment={tag}",): "needs --array",
    }.items():
        assert said in refusal(submit(*words), script)
    assert "needs a script" in refusal(submit(*good), b"id")
    assert "#SBATCH" in refusal(submit(*good), script + b"#SBATCH --get-user-env\n")
    assert "cannot be understood" in refusal({"verb": ["submit"], "seconds": "soon"})
    assert "no verb" in refusal({"verb": "shell"})
    assert "install the gateway's again" in refusal({"verb": "check", "version": 0})
    assert "not an absolute path" in refusal({"verb": "remove", "tag": tag, "logs": "/tmp/../etc"})
    assert "not a tag" in refusal({"verb": "remove", "tag": "../x", "logs": "/tmp"})
    asked, _ = ask_helper(command, submit("--array=0-1", "--test-only"), script)
    assert "to start at" in asked["errors"]
    assert {(foreign,)} == set(slurm.squeue("ArrayJobID", states=ALIVE)), "nothing was submitted"

    told, errors = ask_helper(command, submit(*good), script)
    assert told["code"] == 0, (told, errors)
    base = told["output"].strip() if "--parsable" in good else told["output"].split()[-1]
    cancel = {"verb": "cancel", "arrays": {base: "0-1"}}
    theirs, _ = ask_helper(through_sudo(gateway_account, bob, helper), cancel)
    assert theirs["code"] == 0, "for bob there is no such job"
    own, _ = ask_helper([*become(bob), str(helper)], cancel)
    assert own["code"] == 0
    assert (base,) in slurm.squeue("ArrayJobID", states="PD,R")
    assert ask_helper(command, cancel)[0]["code"] == 0
    slurm.wait_for(lambda: (base,) not in slurm.squeue("ArrayJobID", states="PD,R"), "it ended")


def test_the_helper_reads_and_deletes_only_output_of_jobs(
    helper, gateway_account, unix_users, slurm
):
    alice, bob = unix_users
    tag = BatchId("0123abcd", new_cluster_name(), 0).tag
    logs = slurm.directory / "scratch" / "files"
    home = slurm.directory / "scratch" / "home"
    for path, owner, mode in (
        (logs, "root", 0o1777), (logs / tag, alice, 0o700), (home, alice, 0o700),
    ):  # fmt: skip
        path.mkdir()
        path.chmod(mode)
        os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
    for path in (logs / tag / "0.log", home / "secret", home / "0.log"):
        path.write_text("alice's \u00e9")
        os.chown(path, pwd.getpwnam(alice).pw_uid, -1)
    (logs / tag / "1.log").symlink_to(home / "secret")
    os.mkfifo(logs / tag / "2.log")
    trap = logs / BatchId("0123abcd", new_cluster_name(), 1).tag
    trap.symlink_to(home)  # as anybody could make it there

    def tail(user, tag, index):
        request = {"verb": "tail", "logs": str(logs), "tag": tag, "index": index, "limit": 100}
        told, _ = ask_helper(through_sudo(gateway_account, user, helper), request)
        return told.get("output", "").encode("latin-1").decode()

    def remove(user, tag):
        request = {"verb": "remove", "logs": str(logs), "tag": tag}
        return ask_helper(through_sudo(gateway_account, user, helper), request)[0]["code"]

    assert tail(alice, tag, 0) == "alice's \u00e9"
    assert [tail(alice, tag, index) for index in (1, 2, 3)] == ["", "", ""]
    assert tail(alice, trap.name, 0) == ""
    assert tail(bob, tag, 0) == ""
    assert (remove(bob, tag), remove(alice, trap.name)) == (0, 0)
    assert (logs / tag / "0.log").exists()
    assert (home / "secret").exists()
    assert remove(alice, tag) == 0
    assert not (logs / tag).exists()
    assert (home / "secret").exists()


def test_the_helper_believes_only_settings_of_root(helper, gateway_account, unix_users):
    command = through_sudo(gateway_account, unix_users[0], helper)
    settings = helper.with_name("penstock-slurm.json")
    text = settings.read_text()

    def refusal():
        return ask_helper(command, {"verb": "check"})[0].get("refused", "")

    try:
        assert refusal() == ""
        settings.chmod(0o666)
        assert "must be root's" in refusal()
        settings.chmod(0o644)
        for wrong, said in {
            "{": "is not JSON",
            '{"slurm-conf": "x"}': "slurm-conf cannot be understood",
            '{"options": "nice"}': "options cannot be understood",
        }.items():
            settings.write_text(wrong)
            assert said in refusal()
    finally:
        settings.chmod(0o644)
        settings.write_text(text)


IMPATIENT = """
import asyncio, pathlib, sys
from penstock.backends.slurm.sudo import Sudo

async def main():
    way = Sudo(pathlib.Path(sys.argv[1]), timeout=1.0)
    way._slurm.timeout = 0.5  # less than the helper takes to give up
    words = ["--array=0-0", "--comment=" + sys.argv[3], "--chdir=/", "--output=/dev/null"]
    asked = way.submit(sys.argv[2], words, b"#!/bin/sh\\n")
    [error] = await asyncio.gather(asked, return_exceptions=True)
    print(type(error).__name__, error)
    cut = asyncio.ensure_future(way.cancel(sys.argv[2], {"1": [0]}))
    await asyncio.sleep(0.1)
    cut.cancel()
    [error] = await asyncio.gather(cut, return_exceptions=True)
    print(type(error).__name__)
    while way._slurm._left:
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def helpers(path: Path) -> list[str]:
    """Processes of the helper, whosever they are."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(path) in line]


def test_nothing_outlives_a_gateway_that_may_not_kill_it(
    helper, gateway_account, unix_users, slurm
):
    tag = BatchId("0123abcd", new_cluster_name(), 0).tag
    words = [sys.executable, "-c", IMPATIENT, str(helper), unix_users[0], tag]
    with slurm.hanging_controller():
        done = subprocess.run(
            [*become(gateway_account), *words], capture_output=True, text=True, cwd="/", timeout=60
        )
        wait_until(lambda: not helpers(helper), "the helper ends by itself")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "Uncertain sbatch did not end in time (it said nothing)",
        "CancelledError",
    ]
