"""Two users of one machine: neither sees, reads or ends anything of the other's."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

import penstock
from penstock.backends.local import journal
from penstock.model.job import Job, Phase
from rigs.backends import PYTHON, LocalRig, make_batch, observe_until

SECRET = "token-that-nobody-else-may-see"


def running(count: int):
    return lambda jobs: len([job for job in jobs if job.phase is Phase.RUNNING]) == count


def run_as(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command as that user, with their groups and nothing of ours."""
    entry = pwd.getpwnam(user)
    return subprocess.run(
        command,
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=os.getgrouplist(user, entry.pw_gid),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


async def started(rig: LocalRig) -> Job:
    backend = rig.open()
    batch = make_batch(rig, env={"TOKEN": SECRET}, files={"penstock.json": SECRET.encode()})
    await backend.submit(batch)
    (job,) = await observe_until(backend, running(1), "the job runs")
    await rig.seen(job)
    return job


async def test_a_job_is_its_user_and_nothing_more(alice: LocalRig) -> None:
    job = await started(alice)
    more = (await alice.seen(job)).more
    entry = pwd.getpwnam(alice.owner)
    assert more["uids"] == [entry.pw_uid] * 3
    assert more["gids"] == [entry.pw_gid] * 3
    assert more["groups"] == sorted(os.getgrouplist(alice.owner, entry.pw_gid))
    status = Path("/proc", job.native, "status").read_text()
    assert "\nCapPrm:\t0000000000000000\n" in status
    assert "\nCapEff:\t0000000000000000\n" in status
    for name in ("penstock.json", "probe.py", "output.log"):
        found = (alice.place(job) / name).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (entry.pw_uid, 0o600)


async def test_supplementary_groups_come_along(unix_users: tuple[str, str]) -> None:
    name, other = unix_users
    subprocess.run(["usermod", "--append", "--groups", other, name], check=True)
    rig = LocalRig(name)
    try:
        job = await started(rig)
        groups = (await rig.seen(job)).more["groups"]
        assert groups == sorted([pwd.getpwnam(name).pw_gid, pwd.getpwnam(other).pw_gid])
    finally:
        await rig.aclose()
        subprocess.run(["gpasswd", "--delete", name, other], check=True, capture_output=True)


async def test_another_user_reads_nothing(alice: LocalRig, unix_users: tuple[str, str]) -> None:
    job = await started(alice)
    place = alice.place(job)
    launcher = journal.parse((alice.jobs / job.batch.tag / "journal").read_bytes())
    assert launcher is not None
    mallory = unix_users[1]
    for path in (
        alice.jobs,
        place.parent,
        place.parent / "journal",
        place,
        place / "penstock.json",
        place / "output.log",
        place / "seen.json",
        Path("/proc", job.native, "environ"),
        Path("/proc", str(launcher.pid), "environ"),
    ):
        command = "ls" if path.is_dir() else "cat"
        done = run_as(mallory, command, str(path))
        assert done.returncode != 0, path
        assert "Permission denied" in done.stderr, path
    lines = run_as(mallory, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "probe.py" in lines
    assert SECRET not in lines
    assert job.batch.cluster not in lines
    assert run_as(mallory, "kill", job.native).returncode != 0
    own = run_as(alice.owner, "cat", str(place / "penstock.json"))
    assert own.stdout == SECRET


async def test_users_own_no_record_of_theirs(alice: LocalRig) -> None:
    """Whoever may write the journal chooses who gets our signals."""
    job = await started(alice)
    top = alice.jobs / job.batch.tag
    for path in (alice.jobs, top, top / "journal", top / "launcher.log"):
        assert path.stat().st_uid == 0
        assert path.stat().st_mode & 0o022 == 0
    for command in (["touch", f"{top}/x"], ["rm", f"{top}/journal"], ["mv", f"{top}/0", "/tmp/x"]):
        assert "Permission denied" in run_as(alice.owner, *command).stderr
    assert run_as(alice.owner, "touch", str(alice.place(job) / "own")).returncode == 0


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "directory", "link above"])
async def test_a_log_is_only_the_users_own_file(
    alice: LocalRig, unix_users: tuple[str, str], kind: str
) -> None:
    job = await started(alice)
    backend = alice.open()
    assert "out of 0" in await backend.logs(job, tail=1000)
    secret = alice.directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    log = alice.place(job) / "output.log"
    log.unlink()
    if kind == "symlink":
        log.symlink_to(secret)
    elif kind == "hard link":
        os.link(secret, log)
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "directory":
        log.mkdir()
    else:
        log.write_text("x")
        aside = alice.directory / "aside"
        alice.place(job).rename(aside)
        alice.place(job).symlink_to(aside)
    assert await backend.logs(job, tail=1000) == ""
    if kind == "link above":
        alice.place(job).unlink()
        aside.rename(alice.place(job))


async def test_forget_follows_no_link_out(alice: LocalRig) -> None:
    job = await started(alice)
    backend = alice.open()
    outside = alice.directory / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    place = alice.place(job)
    closed = place / "closed"
    script = (
        f"ln -s {outside} {place}/link && mkdir -p {closed}/deep && ln -s / {closed}/root && "
        f"touch {closed}/deep/file && chmod 500 {closed}/deep && chmod 0 {closed}"
    )
    assert run_as(alice.owner, "sh", "-c", script).returncode == 0
    await alice.finish(job, 0)
    await observe_until(backend, lambda jobs: not jobs[0].alive, "it ended")
    await backend.forget(job.batch.cluster)
    assert not place.parent.exists()
    assert (outside / "precious").exists()
    assert shutil.rmtree.avoids_symlink_attacks


async def test_a_forged_tag_changes_nothing(alice: LocalRig, unix_users: tuple[str, str]) -> None:
    job = await started(alice)
    backend = alice.open()
    entry = pwd.getpwnam(unix_users[1])
    forged = subprocess.Popen(
        ["/bin/sleep", "1000"],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        start_new_session=True,
        env={"PENSTOCK_TAG": job.batch.tag, "PENSTOCK_INDEX": "0"},
    )
    with forged:
        assert (await backend.observe()).jobs == (job,)
        await backend.cancel([job])
        await until_over(alice)
        assert forged.poll() is None
        # A job without a directory is whoever's process it is; the core asks for its owner's.
        await backend.forget(job.batch.cluster)
        (claimed,) = (await alice.open().observe()).jobs
        assert claimed.owner == unix_users[1]
        await backend.cancel([dataclasses.replace(claimed, owner=alice.owner)])
        assert forged.poll() is None
        forged.kill()


async def until_over(rig: LocalRig) -> None:
    backend = rig.open()
    await observe_until(backend, lambda jobs: not any(job.alive for job in jobs), "all ended")


async def test_a_server_without_root_serves_its_own_user(unix_users: tuple[str, str]) -> None:
    """The whole life of a job where the server is an ordinary user."""
    rig = LocalRig(unix_users[0])
    entry = pwd.getpwnam(unix_users[0])
    source = rig.directory / "site"
    shutil.copytree(
        Path(penstock.__file__).parent, source / "penstock", ignore=shutil.ignore_patterns("__pyc*")
    )
    state = rig.directory / "state"
    state.mkdir(mode=0o700)
    os.chown(state, entry.pw_uid, entry.pw_gid)
    script = rig.directory / "script.py"
    script.write_text(ORDINARY)
    for path in [rig.directory, *rig.directory.rglob("*")]:
        if path != state:
            path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else 0o644)
    try:
        done = run_as(
            unix_users[0],
            PYTHON,
            "-I",
            str(script),
            str(source),
            str(state / "jobs"),
            unix_users[1],
        )
        assert done.returncode == 0, done.stderr
        refused = (
            "this gateway runs as user {}, so it cannot start jobs as user {}: it must run as root"
        )
        assert done.stdout.splitlines() == [
            f"{refused.format(*unix_users)} for that",
            f"{refused.format(unix_users[0], 'root')} for that",
            "3 exited with code 3",
            "cancelled 143",
            "0700 forgotten",
        ]
    finally:
        await rig.aclose()


ORDINARY = """
import asyncio, getpass, os, sys, time
sys.path.append(sys.argv[1])
from pathlib import Path
from penstock.backends.local import LocalBackend
from penstock.model.errors import Rejected
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Role

async def ended(backend, sequence):
    while True:
        for job in (await backend.observe()).jobs:
            if job.batch.sequence == sequence and not job.alive:
                return job
        await asyncio.sleep(0.01)

async def main():
    directory = Path(sys.argv[2])
    backend = LocalBackend("local", "0123abcd", directory)
    def batch(sequence, *command, owner=getpass.getuser()):
        return Batch(BatchId("0123abcd", "0" * 32, sequence), owner, Role.WORKER, 1, command)
    for owner in (sys.argv[3], "root"):
        try:
            await backend.submit(batch(0, "/bin/true", owner=owner))
        except Rejected as error:
            print(error)
    await backend.submit(batch(1, "/bin/sh", "-c", "exit 3"))
    job = await ended(backend, 1)
    print(job.exit_code, job.reason)
    await backend.submit(batch(2, "/bin/sleep", "1000"))
    await backend.cancel([job for job in (await backend.observe()).jobs if job.alive])
    job = await ended(backend, 2)
    print(job.exit.value, job.exit_code)
    mode = directory.stat().st_mode & 0o7777
    await backend.forget("0" * 32)
    print(f"{mode:04o}", "left" if any(directory.glob("p-*")) else "forgotten")
    await backend.aclose()

asyncio.run(main())
"""
