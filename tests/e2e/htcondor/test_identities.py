"""A gateway that is neither root nor any of the users, and signs a token for each: whatever comes
between, everybody's jobs are their own, and nobody's token is to be had.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rigs.condor import DOMAIN
from rigs.condor_clusters import backend, events, jobs, profile, scale, told
from rigs.facility import running_facility
from rigs.gateway import wait_until
from rigs.slurm_acting import UnprivilegedGateway, as_user

KEY = "penstock"
TIMES = 20
NEVER = """
[profiles.htcondor.workers.default.extras]
requirements = 'Name == "nowhere"'
"""


@pytest.fixture(scope="module")
def facility(unix_users, gateway_account, condor_pool):
    rig = UnprivilegedGateway(gateway_account)
    with signing_key(condor_pool, rig.directory, gateway_account) as config:
        acting = f'act_by = "token"\ndomain = "{DOMAIN}"\nkey = "{KEY}"\n'
        section = backend("htcondor", condor_pool, acting)
        section = section.replace(str(condor_pool.config), str(config))
        section = section.replace(
            str(condor_pool.bin), str(noting(condor_pool, rig.directory, gateway_account))
        )
        text = section + profile("htcondor", default=("htcondor", NEVER))
        with running_facility(unix_users, text, rig=rig) as facility:
            yield facility


@contextlib.contextmanager
def signing_key(pool, directory: Path, account: str) -> Iterator[Path]:
    """A key of the gateway's own, known to the schedd; yields the gateway's HTCondor configuration."""
    pool_key = pool.directory / "passwords.d" / KEY
    pool_key.write_bytes(os.urandom(64))
    pool_key.chmod(0o600)
    own = directory / "keys"
    own.mkdir(mode=0o700)
    (own / KEY).write_bytes(pool_key.read_bytes())
    config = directory / "condor_config"
    config.write_text(f"include : {pool.config}\nSEC_PASSWORD_DIRECTORY = {own}\n")
    entry = pwd.getpwnam(account)
    for path in (own, own / KEY):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    (own / KEY).chmod(0o600)
    pool.run("condor_reconfig")
    try:
        yield config
    finally:
        pool_key.unlink()


WRAPPER = """#!/bin/sh
{{ tr '\\0' '\\n' < /proc/$$/cmdline; env; }} >> {note}
exec {real} "$@"
"""


def noting(pool, directory: Path, account: str) -> Path:
    """HTCondor's commands, which write down with what arguments and environment they are run."""
    place, note = directory / "bin", directory / "noted"
    place.mkdir(mode=0o755)
    note.touch(mode=0o600)
    shutil.chown(note, account)
    for real in pool.bin.glob("condor_*"):
        wrapper = place / real.name
        wrapper.write_text(WRAPPER.format(note=note, real=real))
        wrapper.chmod(0o755)
    return place


def token_file(facility, user: str) -> Path:
    return facility.rig.state / "htcondor-htcondor" / "tokens" / user / "token"


def tokens(facility) -> set[str]:
    """All tokens that there are now."""
    paths = [token_file(facility, user) for user in (facility.alice, facility.bob)]
    return {path.read_text().strip() for path in paths if path.exists()}


def test_everybodys_jobs_are_their_own(facility, condor):
    alice, bob = facility.alice, facility.bob
    with (
        facility.client(alice) as hers,
        facility.client(bob) as his,
        ThreadPoolExecutor(2) as pool,
    ):
        starts = pool.map(lambda client: client.submit(profile="htcondor"), (hers, his))
        names = dict(zip((alice, bob), starts, strict=True))

        def grow(user: str) -> None:
            for count in range(1, TIMES + 1):
                path = f"/api/v1/clusters/{names[user]}/scale"
                status, text, _ = facility.ask(user, "POST", path, {"count": count})
                assert status == 200, text
                wait_until(lambda n=count: len(jobs(condor, names[user])) == n, "it is submitted")

        list(pool.map(grow, (alice, bob)))
        ads = condor.queue("JobBatchName", "User", "PenstockTag")
        for user, name in names.items():
            mine = [ad for ad in ads if ad["JobBatchName"].endswith(name)]
            assert len({ad["ClusterId"] for ad in mine}) == len(mine) == TIMES + 1
            assert {(ad["Owner"], ad["User"]) for ad in mine} == {(user, f"{user}@{DOMAIN}")}
            [scheduler] = [ad for ad in mine if "scheduler" in ad["JobBatchName"]]
            wait_until(lambda ad=scheduler: runs_as(condor, ad), "it runs")
            assert runs_as(condor, scheduler) == user

        noted = (facility.rig.directory / "noted").read_text()
        assert noted.count("/condor_submit\n") == 2 * (TIMES + 1)
        secrets = tokens(facility)
        assert len(secrets) == 2
        shown = condor.run("condor_q", "-allusers", "-long").stdout
        assert not [word for word in secrets if word in noted + shown + facility.logs()]
        for reader in (alice, bob):
            for user in (alice, bob):
                path = token_file(facility, user)
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700
                assert as_user(reader, "cat", str(path)).returncode != 0

        expire(condor, facility, alice)
        scale(facility, names[alice], "default", TIMES + 1)
        told(facility, names[alice], "HTCondor did not let the user in")
        wait_until(lambda: len(jobs(condor, names[alice])) == TIMES + 1, "with another token")
        assert not events(facility, names[alice], "failed")
        hers.stop_cluster(names[alice])
        his.stop_cluster(names[bob])
        wait_until(lambda: not condor.living(), "no job is left")


def runs_as(condor, ad) -> str:
    """The Unix user of a job that runs."""
    sandbox = condor.sandbox(ad["PenstockTag"], ad["ProcId"])
    return pwd.getpwuid(sandbox.stat().st_uid).pw_name if sandbox else ""


def expire(condor, facility, user: str) -> None:
    """The user's token is one whose time is over, which the gateway cannot know."""
    words = ("-identity", f"{user}@{DOMAIN}", "-lifetime", "1")
    text = condor.run("condor_token_create", *words).stdout
    over = time.time() + 2
    path = token_file(facility, user)
    path.write_text(text)
    wait_until(lambda: time.time() > over, "it is expired")
