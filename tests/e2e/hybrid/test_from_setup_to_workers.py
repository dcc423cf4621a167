"""A new user at a pool: ``setup_condor``, and then a notebook that was told nothing more of HTCondor.

Neither the schedd nor the machines see the notebook's files: what a job needs travels.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.markdown import ROOT
from rigs.environments import environment
from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.ssh import HOST, ssh_server

RIGS = ROOT / "tests" / "rigs"

PROFILE = """
[backends.notebook]
type = "notebook"
period = "500 ms"
grace = "5 s"

[profiles.ncsa.scheduler]
python = "{python}"

[profiles.ncsa.workers.default]
backend = "notebook"
python = "{python}"
nanny = false
"""

CELL = """
from htcdaskgateway import HTCGateway
gateway = HTCGateway()
cluster = gateway.new_cluster()
cluster.scale(2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=120)
print("SUM", client.submit(sum, [1, 2, 3]).result(timeout=60))
print("NAME", cluster.name, flush=True)
input()
print("LOG", "Start worker" in gateway.logs(cluster.name, "w1-0"))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def login_node(condor_pool, unix_users):
    environ = {"CONDOR_CONFIG": str(condor_pool.config), "PATH": f"{condor_pool.bin}:/usr/bin:/bin"}
    with ssh_server(unix_users, environ) as server:
        yield server


@pytest.fixture(scope="module")
def facility(unix_users, condor_pool):
    with running_facility(unix_users, PROFILE) as facility:
        yield facility


def set_up(condor, server, user: str, place: Path) -> str:
    """Run ``setup_condor`` as the user, with what the site put into its configuration."""
    port = condor.setting("SHARED_PORT_PORT")
    site = {
        "login-host": HOST,
        "schedd-host": condor.schedd,
        "collector-host": f"127.0.0.1:{port}",
        "ssh": f"ssh -F {server.client_config}",
        "lifetime": 3600,
    }
    (place / "site.yaml").write_text(json.dumps({"penstock": {"setup-condor": site}}))
    clean = {k: v for k, v in os.environ.items() if k != "CONDOR_CONFIG"}
    done = subprocess.run(
        [sys.executable, RIGS / "as_user.py", user, "many"],
        input="[[]]",
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "PATH": f"{condor.bin}:{os.environ['PATH']}", "DASK_CONFIG": str(place)},
    )
    [(code, output)] = json.loads(done.stdout.splitlines()[-1])  # after what condor_q has shown
    assert code == 0, output
    return done.stdout


def test_from_setup_condor_to_workers(facility, condor, login_node):
    user = facility.alice
    account = pwd.getpwnam(user)
    place = facility.rig.directory / "new-user"
    shutil.copytree(ROOT / "src", place / "packages")
    (place / "cells.py").write_bytes((RIGS / "notebook_cells.py").read_bytes())
    assert f"Total for {user}" in set_up(condor, login_node, user, place)
    login = {"username": user, "password": facility.passwords[user]}
    section = {
        "address": facility.addresses[0],
        "auth": {"type": "basic", "kwargs": login},
        "cluster": {"options": {"profile": "ncsa"}},
        "htcondor": {"period": "500 ms", "grace": "5 s", "python": str(environment("new"))},
    }
    (place / "gateway.yaml").write_text(json.dumps({"gateway": section}))
    process = subprocess.Popen(
        [environment("notebook"), str(place / "cells.py"), json.dumps([CELL])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=login_node.home(user),
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        start_new_session=True,
        env={
            "PATH": f"{condor.bin}:/usr/bin:/bin",
            "HOME": str(login_node.home(user)),
            "LOGNAME": user,
            "DASK_CONFIG": str(place),
            "PYTHONPATH": str(place / "packages"),
        },
    )
    try:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("NAME"):
                break
        assert "SUM 6\n" in text, text
        name = text.rpartition("NAME ")[2].strip()
        ours = f'JobBatchName == "dask-worker-{name}"'
        jobs = condor.queue("Iwd", "StageInFinish", constraint=ours)
        assert [job["Owner"] for job in jobs] == [user] * 2
        assert all(job.get("StageInFinish") for job in jobs), jobs
        assert all(not job["Iwd"].startswith(str(login_node.directory)) for job in jobs)
        rest, _ = process.communicate("\n", timeout=120)
        assert (process.returncode, "LOG True" in rest) == (0, True), rest
        wait_until(lambda: not condor.living(), "no job is left")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
