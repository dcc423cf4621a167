"""What the local backend says when a batch cannot start, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.model.errors import BackendError, Rejected, Unavailable, Uncertain
from penstock.model.job import Phase
from rigs.backends import LocalRig, make_batch, observe_until


async def refused(rig: LocalRig, kind: type[BackendError], **changes: object) -> str:
    """The sentence; and nothing was left."""
    backend = rig.open()
    with pytest.raises(kind) as caught:
        await backend.submit(make_batch(rig, 2, **changes))
    assert type(caught.value) is kind
    assert list(rig.jobs.glob("p-*")) == []
    assert (await backend.observe()).jobs == ()
    return str(caught.value)


def program(rig: LocalRig, name: str, text: str, mode: int = 0o755) -> str:
    path = rig.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


async def test_no_such_program(rig: LocalRig) -> None:
    text = await refused(rig, Rejected, command=("/x/bin/python3", "x.py"))
    assert text == "/x/bin/python3 does not exist on this machine"


async def test_no_such_name(rig: LocalRig) -> None:
    env = {"PATH": "/nowhere:/usr/bin"}
    text = await refused(rig, Rejected, command=("python9", "x.py"), env=env)
    assert text == "python9 does not exist on this machine (looked in /nowhere:/usr/bin)"


async def test_a_name_is_looked_up_in_the_path_of_the_job(rig: LocalRig) -> None:
    backend = rig.open()
    program(rig, "bin/probe-python", "#!/bin/sh\nexec /usr/bin/python3 -I probe.py\n")
    env = {"PATH": f"/nowhere::{rig.directory}/bin"}
    await backend.submit(make_batch(rig, command=("probe-python",), env=env))
    (job,) = await observe_until(backend, bool, "it runs")
    assert await rig.seen(job)


async def test_not_executable(rig: LocalRig) -> None:
    path = program(rig, "python3", "#!/bin/sh\n", 0o644)
    text = await refused(rig, Rejected, command=(path,))
    assert text == f"{path} cannot be executed by user {rig.owner}: Permission denied"


async def test_a_directory(rig: LocalRig) -> None:
    text = await refused(rig, Rejected, command=("/usr/bin",))
    assert text == "/usr/bin is not a file, so it cannot be executed"


async def test_a_missing_interpreter(rig: LocalRig) -> None:
    path = program(rig, "script", "#!/nowhere/python3\n")
    text = await refused(rig, Rejected, command=(path,))
    assert text == f"{path} exists, but the interpreter that its first line names does not"


async def test_no_program_at_all(rig: LocalRig) -> None:
    path = program(rig, "script", "\x00\x01\x02")
    text = await refused(rig, Rejected, command=(path,))
    assert text == f"{path} cannot be executed by user {rig.owner}: {os.strerror(errno.ENOEXEC)}"


async def test_ten_megabytes_of_environment(rig: LocalRig) -> None:
    env = {f"V{number}": "x" * 100_000 for number in range(100)}
    text = await refused(rig, Rejected, env=env)
    assert text == "environment and arguments of /usr/bin/python3 are too long together"


async def test_a_program_in_a_directory_closed_to_the_user(alice: LocalRig) -> None:
    path = program(alice, "closed/python3", "#!/bin/sh\n")
    Path(path).parent.chmod(0o700)
    text = await refused(alice, Rejected, command=(path, "x.py"))
    assert text == f"{path} cannot be executed by user {alice.owner}: Permission denied"


async def test_a_program_that_the_user_may_not_execute(alice: LocalRig) -> None:
    path = program(alice, "python3", "#!/bin/sh\n", 0o700)
    text = await refused(alice, Rejected, command=(path, "x.py"))
    assert text == f"{path} cannot be executed by user {alice.owner}: Permission denied"


async def test_a_directory_that_the_user_cannot_reach(alice: LocalRig) -> None:
    alice.directory.chmod(0o700)
    text = await refused(alice, Rejected)
    assert text.startswith(f"{alice.jobs}/p-")
    assert text.endswith(f"cannot be entered by user {alice.owner}: Permission denied")


async def test_a_directory_that_others_can_write(rig: LocalRig) -> None:
    rig.jobs.mkdir()
    rig.jobs.chmod(0o777)
    text = await refused(rig, Unavailable)
    assert text.endswith("must belong to the gateway's own user and be writable by nobody else")


async def test_a_tag_that_was_used(rig: LocalRig) -> None:
    backend = rig.open()
    batch = make_batch(rig)
    (rig.jobs / batch.id.tag).mkdir(parents=True)
    with pytest.raises(Uncertain, match="is not started twice"):
        await backend.submit(batch)
    assert (await backend.observe()).jobs == ()


@pytest.fixture
def small_disk(alice: LocalRig) -> Iterator[LocalRig]:
    """Job directories on a file system of 256 KiB."""
    alice.jobs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0711", "penstock-test"]
    subprocess.run([*mount, str(alice.jobs)], check=True)
    yield alice
    subprocess.run(["umount", "--lazy", str(alice.jobs)], check=True)


async def test_a_full_disk_is_said_and_leaves_nothing(small_disk: LocalRig) -> None:
    text = await refused(small_disk, Unavailable, files={"data": b"x" * 300_000})
    # Which file finds the disk full is the kernel's business: it counts in batches a processor.
    assert re.search(r"/(data|probe\.py) cannot be written: No space left on device$", text)
    backend = small_disk.open()
    await backend.submit(make_batch(small_disk))
    (job,) = await observe_until(backend, bool, "there is room for a small one")
    await small_disk.finish(job, 0)
    await observe_until(backend, lambda jobs: not jobs[0].alive, "it ended")


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


async def test_an_end_waits_for_room_on_a_full_disk(small_disk: LocalRig) -> None:
    backend = small_disk.open()
    await backend.submit(make_batch(small_disk))
    (job,) = await observe_until(backend, bool, "it runs")
    await small_disk.seen(job)
    # The next line needs a page of its own, and there is none.
    with (small_disk.jobs / job.batch.tag / "journal").open("ab") as journal:
        journal.write(b"\n" * (-journal.tell() % 4096))
    prepared = small_disk.place(job) / "prepared"
    prepared.write_text("6")
    prepared.chmod(0o644)
    filler = small_disk.jobs / "filler"
    fill(filler)
    prepared.rename(prepared.with_name("end"))
    waiting = await observe_until(
        backend, lambda jobs: jobs[0].phase is Phase.ENDING, "nobody knows how it ended"
    )
    assert waiting[0].exit is None
    filler.unlink()
    (job,) = await observe_until(backend, lambda jobs: not jobs[0].alive, "its end is known")
    assert job.exit_code == 6
