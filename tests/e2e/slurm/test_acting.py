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
import subprocess
from pathlib import Path

import pytest
from dask_gateway.client import GatewayClusterError

from penstock.model.ids import BatchId, new_cluster_name
from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.slurm_acting import (
    UnprivilegedGateway,
    ask_helper,
    become,
    slurmrestd,
    sudo_rule,
)

WAYS = ["itself", "sudo", "slurmrestd"]
ALIVE = "PD,R,CF,CG,S"

CONFIG = """
[backends.slurm]
type = "slurm"
config = "{slurm.config}"
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


@pytest.fixture(scope="module")
def helper(slurm_helper, gateway_account, unix_users):
    """The helper, and the rule that lets the gateway's account start it."""
    with sudo_rule(gateway_account, unix_users, slurm_helper):
        yield slurm_helper


@pytest.fixture(scope="module", params=WAYS)
def facility(request, slurm_cluster, gateway_account, unix_users):
    """A gateway for both users: as root, or as an account of its own that is nobody else's."""
    with contextlib.ExitStack() as stack:
        more, rig = "", None
        if request.param != "itself":
            rig = UnprivilegedGateway(gateway_account)
        if request.param == "sudo":
            more = f'helper = "{request.getfixturevalue("helper")}"'
        if request.param == "slurmrestd":
            daemon = stack.enter_context(slurmrestd(slurm_cluster))
            for user in unix_users:
                daemon.keep(user, daemon.token(user), gateway_account)
            command = json.dumps(["/bin/cat", f"{daemon.place}/{{{{user}}}}.token"])
            more = f'rest = {{{{ url = "{daemon.url}", token_command = {command} }}}}'
        text = CONFIG.format(slurm=slurm_cluster, way=request.param, more=more)
        yield request.param, stack.enter_context(running_facility(unix_users, text, rig=rig))


def as_user(user: str, *command: str, **options) -> subprocess.CompletedProcess[str]:
    """A command of somebody's own."""
    entry = pwd.getpwnam(user)
    return subprocess.run(
        command, user=entry.pw_uid, group=entry.pw_gid, cwd="/", timeout=60,
        extra_groups=os.getgrouplist(user, entry.pw_gid), capture_output=True, text=True, **options,
    )  # fmt: skip


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


# --- the rule and the helper ---------------------------------------------------------------------


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
    assert foreign in {base for (base,) in slurm.squeue("ArrayJobID", states=ALIVE)}

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
