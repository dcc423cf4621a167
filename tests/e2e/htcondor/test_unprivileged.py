"""A gateway that is not root: it acts for users as one of the schedd's super users, or by tokens that
it signs with a key of its own. The backend runs in a process of that account.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path

import pytest

from penstock.backends.htcondor import Acting, HTCondorBackend, condor_commands, submit
from penstock.model.ids import new_gateway_id
from penstock.model.job import Phase
from rigs import backends
from rigs.condor import DOMAIN

SOURCE = submit.bootstrap()
SLEEP = b"print('here', flush=True); import time; time.sleep(1000)"


class Probe:
    """Instead of a path, which the other account may not be able to read."""

    @staticmethod
    def read_bytes() -> bytes:
        return SLEEP


@pytest.fixture
def home(unix_users):
    """A directory of the gateway's own account."""
    place = Path(tempfile.mkdtemp(prefix="pk-gateway-", dir="/tmp"))
    account = pwd.getpwnam(unix_users[1])
    os.chown(place, account.pw_uid, account.pw_gid)
    yield place
    shutil.rmtree(place)


def as_account(name: str, work) -> None:
    """Run a coroutine function in a process of another account; fails when that fails."""
    account = pwd.getpwnam(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads: it needs none
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            asyncio.run(work())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def give_key(condor, home: Path, account: str) -> Path:
    """A signing key of the gateway's own, which the pool trusts: the configuration that names it."""
    keys = home / "keys"
    keys.mkdir(mode=0o700)
    for place in (condor.directory / "passwords.d" / "gateway", keys / "gateway"):
        place.touch(mode=0o600)
        place.write_bytes(b"a key of the gateway's own, for tests")
    config = home / "condor_config"
    text = condor.config.read_text()
    config.write_text(f"{text}\nSEC_PASSWORD_DIRECTORY = {keys}\n")
    for place in (keys, keys / "gateway", config):
        shutil.chown(place, account, account)
    return config


@pytest.mark.parametrize("way", ["behalf", "token"])
def test_it_runs_jobs_that_are_the_users(condor, unix_users, home, monkeypatch, way):
    alice, gateway = unix_users
    monkeypatch.setattr(submit, "bootstrap", lambda: SOURCE)
    monkeypatch.setattr(backends, "PROBE", Probe)
    config = give_key(condor, home, gateway)

    class Rig:
        gateway = new_gateway_id()
        owner = alice

    async def work() -> None:
        backend = HTCondorBackend(
            "htcondor",
            Rig.gateway,
            home / "notes",
            home / "files",
            condor_commands(condor.bin, config, 30.0),
            acting=Acting(way, DOMAIN, "gateway", 600.0),
            spool=True,
        )
        await backend.submit(backends.make_batch(Rig, 2))
        jobs = await backends.observe_until(
            backend, lambda now: [job.phase for job in now] == [Phase.RUNNING] * 2, "two run"
        )
        assert {job.owner for job in jobs} == {alice}
        assert await backend.logs(jobs[0], tail=100) == "here\n"
        await backend.cancel(jobs)
        await backends.observe_until(
            backend, lambda now: not any(job.alive for job in now), "both ended"
        )

    if way == "token":
        as_account(gateway, work)
        return
    with condor.configured(QUEUE_SUPER_USERS=f"root, condor, {gateway}"):
        # HTCondor knows a super user who is not root only after a job of its own.
        own = "executable = /bin/true\ntransfer_executable = false\nhold = true\nqueue\n"
        condor.run("condor_submit", "-", user=gateway, input=own)
        as_account(gateway, work)
