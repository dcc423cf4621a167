"""Workers in container images with a real apptainer: by HTCondor's container universe, and in jobs
that enter their image themselves. The Python of the images lies where no machine has one.
"""

from __future__ import annotations

import os
import pwd
import signal

import psutil
import pytest

from penstock.environment.container import Container, enter
from penstock.model.job import Exit, Phase
from rigs.apptainer_install import apptainer
from rigs.backends import PYTHON as NODES_PYTHON
from rigs.backends import make_batch, observe_until
from rigs.condor import started
from rigs.condor_clusters import backend, by_value, jobs, running, scale, serving, told
from rigs.condor_install import installed
from rigs.condor_jobs import CondorRig
from rigs.container_images import PYTHON, image_directory, image_file, universe
from rigs.facility import running_facility
from rigs.gateway import wait_until

SCHEDULER = """
[profiles.images.scheduler]
python = "{python}"
"""

GROUP = """
[profiles.images.workers.{name}]
backend = "htcondor"
python = "{inside}"
memory = "1 GiB"
nanny = false

[profiles.images.workers.{name}.extras]
universe = "container"
container_image = "{image}"
"""

FAMILY = b"""
import json, os, sys, time
if os.fork() == 0:  # a child that leaves its family
    os.setsid()
    os.execv("/bin/sleep", ["sleep", "1000"])
proxy = os.environ["X509_USER_PROXY"]
seen = {
    "python": sys.executable,
    "here": os.getcwd(),
    "proxy": [proxy, open(proxy).read(), os.stat(proxy).st_mode & 0o777],
    "bound": os.listdir("/mnt"),
}
open("seen.new", "w").write(json.dumps(seen))
os.rename("seen.new", "seen.json")
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def pool():
    version = os.environ.get("PENSTOCK_TEST_CONDOR_VERSION", "23.9")
    for pool in started(version, cpus=16, extra=universe(installed(version))):
        asked = ("HasSandboxImage", "HasSIF", "SingularityOfflineReason")
        told = pool.run("condor_status", "-af", *asked).stdout
        assert told.startswith("true true"), f"no user namespaces on this machine? {told}"
        yield pool


@pytest.fixture(scope="module")
def facility(unix_users, pool):
    images = {"directory": image_directory(), "file": image_file(), "absent": "/nowhere/image"}
    groups = [GROUP.format(name=k, inside=PYTHON, image=v) for k, v in images.items()]
    text = "".join([backend("htcondor", pool), SCHEDULER, *groups])
    with running_facility(unix_users, text) as facility:
        yield facility


@pytest.fixture
async def rig(pool, unix_users):
    rig = CondorRig(pool, unix_users[0])
    yield rig
    await rig.aclose()


def look_around():
    """What a worker sees of its container."""
    import os
    import sys

    traces = ("CONDOR", "APPTAINER", "SINGULARITY")
    return {
        "python": sys.executable,
        "in an image": os.path.isdir("/.singularity.d"),
        "uid": os.getuid(),
        "mode": os.stat(".").st_mode & 0o7777,
        "traces": [name for name in os.environ if name.startswith(traces)],
    }


def processes(user: str) -> dict[int, psutil.Process]:
    """Of a Unix user, on the node and in containers."""
    uid = pwd.getpwnam(user).pw_uid
    shown = psutil.process_iter(["uids", "status"])
    alive = [one for one in shown if one.info["status"] != psutil.STATUS_ZOMBIE]
    return {one.pid: one for one in alive if one.info["uids"] and one.info["uids"].real == uid}


def test_workers_in_images_work_and_leave_nothing(facility, pool):
    alice = facility.alice
    with running(facility, "images") as (_, cluster, dask):
        scheduler = processes(alice)
        scale(facility, cluster.name, "directory", 1)
        scale(facility, cluster.name, "file", 1)
        dask.wait_for_workers(2, timeout=120)
        expected = {"python": PYTHON, "in an image": True, "mode": 0o700, "traces": []}
        expected["uid"] = pwd.getpwnam(alice).pw_uid
        assert list(dask.run(by_value(look_around)).values()) == [expected] * 2
        assert sum(dask.gather(dask.map(lambda x: x * x, range(100), pure=False))) == 328350
        old, first = serving(dask), processes(alice).keys() - scheduler.keys()
        pool.run("condor_rm", *jobs(pool, cluster.name), user=alice)
        wait_until(lambda: not first & processes(alice).keys(), "no process of theirs is left")
        wait_until(lambda: len(serving(dask) - old) == 2, "two others serve", 120)
        scale(facility, cluster.name, "file", 0)
        wait_until(lambda: len(jobs(pool, cluster.name)) == 1, "one is left")
        scale(facility, cluster.name, "absent", 1)
        told(facility, cluster.name, "could not open image /nowhere/image")
    wait_until(lambda: not pool.living(), "no job is left")
    wait_until(lambda: not list(pool.directory.glob("execute/dir_*")), "nor a directory of one")
    wait_until(lambda: not processes(alice), "nor a process")


@pytest.mark.parametrize(("image", "killed"), [(image_directory, False), (image_file, True)])
async def test_a_job_that_enters_its_image_itself(rig, pool, image, killed):
    backend = rig.open()
    binds = [f"{apptainer().parents[1]}:/mnt:ro", "/nowhere"]
    box = Container(str(image()), str(apptainer()), binds, ["--pid"])
    command, files = enter((PYTHON, "family.py"), box, b"a proxy", python=NODES_PYTHON)
    files = {**files, "family.py": FAMILY}
    await backend.submit(make_batch(rig, command=command, files=files))
    [job] = await observe_until(
        backend, lambda now: now and now[0].phase is Phase.RUNNING, "it runs"
    )
    seen = await rig.file(job, "seen.json")
    assert (seen["python"], seen["here"]) == (PYTHON, "/srv")
    assert seen["proxy"] == ["/srv/x509up", "a proxy", 0o600]
    assert "images" in seen["bound"]
    found = processes(rig.owner).values()
    outside = [one for one in found if one.cmdline()[:1] == ["Apptainer"]]
    if killed:
        os.kill(outside[0].pid, signal.SIGKILL)
    else:
        await backend.cancel([job])
    [job] = await observe_until(backend, lambda now: not now[0].alive, "it ended")
    assert job.exit is (Exit.FAILED if killed else Exit.CANCELLED)
    wait_until(lambda: not processes(rig.owner), "no process is left")
    wait_until(lambda: not list(pool.directory.glob("execute/dir_*")), "nor an unpacked image")
