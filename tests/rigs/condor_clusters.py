"""Questions about clusters on a real HTCondor, asked of HTCondor, of Penstock and of Dask."""

from __future__ import annotations

import contextlib

from rigs.gateway import wait_until
from rigs.slurm_clusters import by_value, events, scale, serving

__all__ = [
    "backend",
    "by_value",
    "events",
    "jobs",
    "profile",
    "running",
    "scale",
    "serving",
    "told",
]

BACKEND = """
[backends.{name}]
type = "htcondor"
bin = "{pool.bin}"
config = "{pool.config}"
directory = "{pool.files}"
period = "500 ms"
timeout = "6 s"
visibility = "5 s"
grace = "10 s"
{more}
"""

PROFILE = """
[profiles.{name}.scheduler]
backend = "{scheduler}"
python = "{{python}}"
{more}
"""

GROUP = """
[profiles.{name}.workers.{group}]
backend = "{backend}"
python = "{{python}}"
memory = "1 GiB"
nanny = false
{more}
"""


def backend(name: str, pool, more: str = "") -> str:
    """TOML of a backend over a pool."""
    return BACKEND.format(name=name, pool=pool, more=more)


def profile(
    name: str, scheduler: str = "htcondor", more: str = "", **groups: str | tuple[str, str]
) -> str:
    """TOML of a profile: where its scheduler runs and ``more`` of that, and worker groups with the
    backend of each, or that and more; to be formatted with ``python``."""
    text = PROFILE.format(name=name, scheduler=scheduler, more=more)
    for group, of in (groups or {"default": "htcondor"}).items():
        backend, more = of if isinstance(of, tuple) else (of, "")
        text += GROUP.format(name=name, group=group, backend=backend, more=more)
    return text


def jobs(pool, cluster: str, role: str = "worker", constraint: str = "true") -> list[str]:
    """``cluster.proc`` of a cluster's living jobs."""
    shown = pool.living(f'JobBatchName == "dask-{role}-{cluster}" && ({constraint})')
    return sorted(f"{ad['ClusterId']}.{ad['ProcId']}" for ad in shown)


def told(facility, cluster: str, words: str, seconds: float = 60.0) -> None:
    """Wait until the user reads these words."""
    try:
        wait_until(lambda: words in " ".join(events(facility, cluster)), words, seconds)
    except AssertionError as error:
        raise AssertionError(f"{words!r} is not in {events(facility, cluster)}") from error


@contextlib.contextmanager
def running(facility, profile: str = "htcondor", **options):
    """A cluster of alice's, and a Dask client of it."""
    with (
        facility.client(facility.alice) as gateway,
        gateway.new_cluster(profile=profile, **options) as cluster,
        cluster.get_client() as dask_client,
    ):
        yield gateway, cluster, dask_client
