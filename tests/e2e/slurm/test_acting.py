"""Two users and a gateway who try to reach what is not theirs, by each way of acting for users.

As root; as an account with one rule of sudo; and with tokens for slurmrestd. The jobs, the files and
whoever tries are real.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
from pathlib import Path

import pytest
from dask_gateway.client import GatewayClusterError

from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.slurm_acting import UnprivilegedGateway, as_user, slurmrestd

WAYS = ["itself", "sudo", "slurmrestd"]
ALIVE = "PD,R,CF,CG,S"

CONFIG = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
bin = "{slurm.bin}"
scratch = "{slurm.directory}/scratch"
period = "500 ms"
timeout = "15 s"
visibility = "5 s"
act_by = "{way}"
{more}

[backends.slurm.jobs]
time = "30 min"
arguments = ["--nice=10"]
log_directory = "{slurm.directory}/scratch/logs-{{{{user}}}}"

[profiles.slurm.scheduler]
backend = "slurm"
python = "{{python}}"

[profiles.slurm.workers.default]
backend = "slurm"
python = "{{python}}"
memory = "1 GiB"
nanny = false
"""


@pytest.fixture(scope="module", params=WAYS)
def facility(request, slurm_cluster, gateway_account, unix_users):
    """A gateway for both users: as root, or as an account of its own that is nobody else's."""
    with contextlib.ExitStack() as stack:
        more, rig = "", None
        if request.param != "itself":
            rig = UnprivilegedGateway(gateway_account)
        if request.param == "sudo":
            more = f'helper = "{request.getfixturevalue("ruled_helper")}"'
        if request.param == "slurmrestd":
            daemon = stack.enter_context(slurmrestd(slurm_cluster))
            for user in unix_users:
                daemon.keep(user, daemon.token(user), gateway_account)
            command = json.dumps(["/bin/cat", f"{daemon.place}/{{{{user}}}}.token"])
            more = f'rest = {{{{ url = "{daemon.url}", token_command = {command} }}}}'
        text = CONFIG.format(slurm=slurm_cluster, way=request.param, more=more)
        yield request.param, stack.enter_context(running_facility(unix_users, text, rig=rig))


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    import types

    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def look_around():
    """As whom a job runs."""
    import os

    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


def jobs_of(slurm, cluster: str) -> dict[str, str]:
    """Job → user, of a cluster's living jobs."""
    shown = slurm.squeue("ArrayJobID", "ArrayTaskID", "Name", "UserName", states=ALIVE)
    return {f"{base}_{task}": user for base, task, name, user in shown if cluster in name}


def place_of(slurm, cluster: str) -> Path:
    """The private directory of a scheduler's job."""
    return next((slurm.directory / "scratch").glob(f"penstock-p-*-{cluster}-0-0.*"))


def test_clusters_run_as_their_users_who_reach_nothing_of_each_other(facility, slurm, unix_users):
    way, rig = facility
    with contextlib.ExitStack() as stack:
        clusters = {}
        for user in unix_users:
            gateway = stack.enter_context(rig.client(user))
            clusters[user] = gateway.connect(gateway.submit(profile="slurm"))
            clusters[user] = stack.enter_context(clusters[user])
            clusters[user].shutdown_on_close = True
            clusters[user].scale(2)
        for user, cluster in clusters.items():
            dask = stack.enter_context(cluster.get_client())
            dask.wait_for_workers(2, timeout=120)
            entry = pwd.getpwnam(user)
            groups = sorted(os.getgrouplist(user, entry.pw_gid))
            want = ((entry.pw_uid,) * 3, (entry.pw_gid,) * 3, groups)
            assert set(map(str, dask.run(by_value(look_around)).values())) == {str(want)}
            assert set(jobs_of(slurm, cluster.name).values()) == {user}
            path = f"/api/v1/clusters/{cluster.name}/logs?job=s0-0"
            status, text, _ = rig.ask(user, "GET", path)
            assert (status, "Scheduler at" in text) == (200, True)
        alice, bob = unix_users
        reach_for_what_is_not_yours(rig, slurm, clusters[alice].name, alice, bob)
        if way != "itself":
            reach_for_what_is_not_yours(rig, slurm, clusters[alice].name, alice, rig.rig.account)
        clusters[alice].scale(1)
        wait_until(lambda: len(jobs_of(slurm, clusters[alice].name)) == 2, "one worker is left")
        assert len(jobs_of(slurm, clusters[bob].name)) == 3
    wait_until(lambda: not slurm.squeue("JobID", states=ALIVE), "no job is left")
    if way == "sudo":
        ask_without_a_rule(rig)


def ask_without_a_rule(rig) -> None:
    """The gateway's own account is a user for whom nobody allowed anything."""
    user = rig.rig.account
    rig.passwords[user] = "word of the gateway"
    rig.write_users()
    rig.rig.place()
    words = f"the gateway may not start jobs as user {user}"
    with rig.client(user) as gateway, pytest.raises(GatewayClusterError, match=words):
        gateway.new_cluster(profile="slurm")


def reach_for_what_is_not_yours(rig, slurm, cluster: str, alice: str, other: str) -> None:
    """Another user, or the gateway's own account, tries what an account can."""
    [scheduler] = [job for job in jobs_of(slurm, cluster) if job.endswith("_0")][:1]
    place = place_of(slurm, cluster)
    config = place / "job" / "penstock.json"
    token = json.loads(config.read_text())["token"]
    log = next((slurm.directory / "scratch" / f"logs-{alice}").glob(f"*{cluster}-0/0.log"))
    environ = slurm.environ
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    for path in (config, log):
        assert "Permission denied" in as_user(other, "cat", str(path)).stderr
    assert "Permission denied" in as_user(other, "ls", str(place)).stderr
    denied = as_user(other, "scancel", scheduler, env=environ)
    assert "denied" in denied.stderr
    script = as_user(other, "scontrol", "write", "batch_script", scheduler, "-", env=environ)
    assert "PENSTOCK" not in script.stdout
    shown = as_user(other, "scontrol", "show", "job", "-dd", env=environ).stdout
    processes = as_user(other, "ps", "axeww").stdout
    assert token not in shown + processes + script.stdout
    uid = pwd.getpwnam(alice).pw_uid
    spool = [p for p in slurm.directory.glob("spool/*/job*/slurm_script") if p.stat().st_uid == uid]
    assert spool
    assert all("denied" in as_user(other, "cat", str(path)).stderr for path in spool)
    assert scheduler in jobs_of(slurm, cluster)
    if other in rig.passwords:
        assert "Permission denied" in as_user(other, "ls", str(rig.rig.state)).stderr
        for path in Path("/tmp").glob(f"pk-restd-*/{alice}.token"):
            assert "Permission denied" in as_user(other, "cat", str(path)).stderr
        assert rig.ask(other, "GET", f"/api/v1/clusters/{cluster}")[0] == 404
