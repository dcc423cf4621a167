"""A job that ends while its environment is still being activated."""

from __future__ import annotations

import signal
from pathlib import Path

from rigs.agents import Job, Rig, until


def prefix(directory: Path, script: str) -> dict[str, str]:
    """A conda prefix with one script, as a job is told of it."""
    place = directory / "prefix"
    (place / "etc/conda/activate.d").mkdir(parents=True)
    (place / "conda-meta").mkdir()
    (place / "etc/conda/activate.d/a.sh").write_text(script)
    return {"kind": "conda", "prefix": str(place), "project": "", "environment": ""}


async def starting(rig: Rig, script: str) -> Job:
    """A job in the middle of a script that says "waiting"."""
    config = rig.config("scheduler", 0, activate=prefix(rig.directory, f"echo waiting\n{script}"))
    job = await rig.start(config)
    await until(lambda: "waiting" in job.log, "the script to run")
    return job


async def test_sigterm_ends_an_activation_and_all_that_it_started(rig: Rig) -> None:
    job = await starting(rig, "sleep 1000 & sleep 1000\n")
    job.process.send_signal(signal.SIGTERM)
    assert await job.wait() == 128 + signal.SIGTERM
    assert rig.server.exits == []
    assert not rig.server.said("hello")


async def test_an_activation_does_not_outlive_a_killed_agent(rig: Rig) -> None:
    job = await starting(rig, "kill -STOP $$\n")
    job.process.send_signal(signal.SIGKILL)
    assert await job.wait() == -signal.SIGKILL
