"""Questions about clusters on a real Slurm, asked of Slurm, of Penstock and of Dask."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import time

from rigs.gateway import wait_until

ALIVE = "PD,R,CF,CG,S"

BACKEND = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
bin = "{slurm.bin}"
scratch = "{slurm.directory}/scratch"
period = "500 ms"
timeout = "15 s"
visibility = "5 s"
"""

PROFILE = """
[profiles.{name}.scheduler]
backend = "slurm"
python = "{{python}}"
{scheduler}

[profiles.{name}.workers.default]
backend = "slurm"
python = "{{python}}"
memory = "1 GiB"
nanny = false
{workers}
"""

GROUP = """
[profiles.{name}.workers.{group}]
backend = "slurm"
python = "{{python}}"
memory = "1 GiB"
nanny = false
{more}
"""


def profile(name: str, scheduler: str = "", workers: str = "", **groups: str) -> str:
    """TOML of a profile with schedulers and workers in Slurm, and more of each; to be formatted
    with ``python``."""
    more = [GROUP.format(name=name, group=group, more=text) for group, text in groups.items()]
    return PROFILE.format(name=name, scheduler=scheduler, workers=workers) + "".join(more)


def jobs(slurm, cluster: str, role: str = "worker", states: str = ALIVE) -> list[str]:
    """``base_task`` of a cluster's jobs, as Slurm's users see them."""
    shown = slurm.squeue("ArrayJobID", "ArrayTaskID", "Name", states=states)
    return sorted(
        f"{base}_{task}" for base, task, name in shown if name == f"dask-{role}-{cluster}"
    )


def events(facility, cluster: str, kind: str = "") -> list[str]:
    """What the user reads, of one kind or all."""
    status, text, _ = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster}/events")
    assert status == 200
    return [
        event["text"]
        for event in json.loads(text)["events"]
        if event["kind"] == (kind or event["kind"])
    ]


def told(facility, cluster: str, kind: str, words: str, seconds: float = 60.0) -> None:
    """Wait until an event says so, of one kind or ("") any; what was said instead, if none does."""
    try:
        wait_until(lambda: words in " ".join(events(facility, cluster, kind)), words, seconds)
    except AssertionError as error:
        raise AssertionError(f"{words!r} is not in {events(facility, cluster)}") from error


def shown(facility, cluster: str) -> dict[str, dict]:
    """What ``penstock show`` knows of each job, by its name."""
    status, text, _ = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster}/jobs")
    assert status == 200, text
    return {job["job"]: job for job in json.loads(text)["jobs"]}


def scale(facility, cluster: str, group: str, count: int) -> None:
    """Wish for so many workers of a group."""
    path = f"/api/v1/clusters/{cluster}/scale"
    status, text, _ = facility.ask(facility.alice, "POST", path, {"count": count, "group": group})
    assert status == 200, text


def serving(dask_client) -> set[str]:
    """The names of the workers that Dask has."""
    return {one["name"] for one in dask_client.scheduler_info(n_workers=-1)["workers"].values()}


def as_user(slurm, user: str, *command: str, **options) -> subprocess.CompletedProcess:
    """A command of Slurm's as a user, who may fail."""
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    options.update(user=account.pw_uid, group=account.pw_gid, extra_groups=groups)
    return slurm.run(*command, check=False, **options)


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    import types

    copy = types.FunctionType(
        function.__code__, {"__builtins__": __builtins__}, function.__name__, function.__defaults__
    )
    copy.__module__ = "__main__"
    return copy


def wait_for_clean_nodes(slurm, seconds: float = 60.0) -> None:
    """Private directories go with their jobs; what stays is told with the end of its output."""
    scratch = slurm.directory / "scratch"
    deadline = time.monotonic() + seconds
    while left := list(scratch.glob("penstock-*")):
        if time.monotonic() > deadline:
            ends = {path.name: path.read_text()[-500:] for path in scratch.rglob("*.log")}
            raise AssertionError(f"{[path.name for path in left]} stay: {ends}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(facility, profile: str = "slurm", **options):
    """A cluster of alice's, and a Dask client of it."""
    with (
        facility.client(facility.alice) as gateway,
        gateway.new_cluster(profile=profile, **options) as cluster,
        cluster.get_client() as dask_client,
    ):
        yield gateway, cluster, dask_client
