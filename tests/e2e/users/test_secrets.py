"""Passwords, tokens and keys: not in any command line, log, file or environment of others."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess

import psutil
import pytest
from dask_gateway import BasicAuth, Gateway

from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def busy(facility):
    """A gateway that has done a bit of everything; (cluster's name, its secrets)."""
    with facility.client(facility.alice) as client:
        with pytest.raises(ValueError, match="worker_cores"):
            client.new_cluster(worker_cores=99, env={"API_SECRET": "worth a lot"})
        with client.new_cluster(env={"MY_WORD": "worth a lot"}) as cluster:
            cluster.scale(1)
            with cluster.get_client() as dask_client:
                dask_client.wait_for_workers(1, timeout=120)
            facility.ask(None, "GET", cluster.dashboard_link.partition(facility.addresses[0])[2])
            with (
                Gateway(
                    facility.addresses[0], auth=BasicAuth(facility.bob, "bobs wrong word")
                ) as g,
                contextlib.suppress(Exception),
            ):
                g.list_clusters()
            secrets = facility.secrets(cluster.name, facility.alice)
            yield (
                cluster.name,
                {
                    "token": secrets["token"],
                    "key": pem_body(secrets["tls_key"]),
                    "cookie": cookie(facility),
                    "ticket": re.search(r"~([\w.-]+)/", cluster.dashboard_link)[1],
                    "wrong password": "bobs wrong word",
                    "variable": "worth a lot",
                    **{f"password of {name}": word for name, word in facility.passwords.items()},
                    **{f"hash of {pair[0]}": hashed for pair, hashed in facility._hashes.items()},
                },
            )


def pem_body(pem: str) -> str:
    return pem.splitlines()[1]


def cookie(facility) -> str:
    _, _, headers = facility.ask(facility.alice, "GET", "/api/v1/clusters/")
    return re.match(r"[^=]+=([^;]+)", headers["set-cookie"])[1]


def test_no_secret_is_in_a_command_line(busy):
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            lines.append("\0".join(process.cmdline()))
    for what, secret in busy[1].items():
        assert not any(secret in line for line in lines), what


def test_no_secret_of_ours_is_in_an_environment(facility, busy):
    """A user's own variables are in their own jobs; all else is in files."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            text = "\0".join(process.environ().values())
            for what in ("token", "key", "cookie", "ticket"):
                assert busy[1][what] not in text, (what, process)


def test_no_secret_is_in_a_log(facility, busy):
    text = facility.logs()
    assert busy[0] in text  # lines about a cluster carry its name …
    lines = [line for line in text.splitlines() if busy[0] in line]
    assert all(facility.alice in line for line in lines), lines  # … and its user
    for what, secret in busy[1].items():
        assert secret not in text, what


def as_user(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    account = pwd.getpwnam(name)
    return subprocess.run(
        command, user=name, group=account.pw_gid, extra_groups=[], cwd="/",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_another_user_reads_none_of_the_files(facility, busy):
    places = [facility.rig.state, facility.jobs, facility.rig.directory]
    for place in map(str, places):
        found = as_user(facility.bob, "find", place, "-type", "f", "-readable").stdout
        allowed = [line for line in found.splitlines() if not line.endswith("serve.log")]
        assert allowed == [], place
    own = as_user(facility.alice, "cat", str(facility.rig.state / "penstock.db"))
    assert own.returncode != 0


def test_another_user_cannot_look_into_jobs(facility, busy):
    jobs = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.username() == facility.alice:
                jobs.append(process.pid)
    assert jobs
    for pid in jobs:
        for what in ("environ", "mem", "maps"):
            assert as_user(facility.bob, "cat", f"/proc/{pid}/{what}").returncode != 0
        assert as_user(facility.bob, "ls", f"/proc/{pid}/cwd/").returncode != 0
    code = f"import os; os.kill({jobs[0]}, 0)"
    assert "PermissionError" in as_user(facility.bob, "/usr/bin/python3", "-c", code).stderr


def test_nothing_of_a_cluster_is_left_with_its_user_when_it_is_over(facility):
    with facility.client(facility.bob) as client:
        name = client.submit()
        client.connect(name).close()
        uid = pwd.getpwnam(facility.bob).pw_uid
        assert processes_of(uid)
        client.stop_cluster(name)
        wait_until(lambda: client.get_cluster(name).status.name == "STOPPED", "it stops")
        wait_until(lambda: not processes_of(uid), "no process of the user")


def processes_of(uid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == uid:
                found.append(int(entry))
    return found
