"""Jobs run as their user, and with the profile that address and options say."""

from __future__ import annotations

import os
import pwd
import warnings

import pytest
from dask_gateway import GatewayWarning

from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def clients(facility):
    alice, bob = facility.client(facility.alice), facility.client(facility.bob)
    with alice, bob:
        yield alice, bob


@pytest.fixture(scope="module")
def cluster(clients):
    with clients[0].new_cluster(tier="mini", note="a b", env={"MINE": "1"}) as cluster:
        cluster.scale(1)
        yield cluster


@pytest.fixture(scope="module")
def dask_client(cluster):
    with cluster.get_client() as dask_client:
        dask_client.wait_for_workers(1, timeout=120)
        yield dask_client


def job_of_mine():
    """What a job sees of itself; sent by value."""
    import getpass
    import os

    with open("written-by-the-job", "w") as file:
        file.write("x")
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": sorted(os.getgroups()),
        "name": getpass.getuser(),
        "cwd": os.getcwd(),
        "file": os.stat("written-by-the-job").st_uid,
        "mode": os.stat(".").st_mode & 0o7777,
        "others": {name: os.stat(name).st_mode & 0o77 for name in os.listdir(".")},
        "env": dict(os.environ),
    }


@pytest.mark.parametrize("where", ["scheduler", "worker"])
def test_jobs_run_as_their_user_and_nothing_more(facility, dask_client, where):
    look = by_value(job_of_mine)
    if where == "scheduler":
        seen = dask_client.run_on_scheduler(look)
    else:
        [seen] = dask_client.run(look).values()
    account = pwd.getpwnam(facility.alice)
    assert seen["uids"] == (account.pw_uid,) * 3
    assert seen["gids"] == (account.pw_gid,) * 3
    assert seen["groups"] == sorted(os.getgrouplist(facility.alice, account.pw_gid))
    assert seen["name"] == facility.alice
    assert seen["env"]["HOME"] == account.pw_dir
    assert seen["env"]["USER"] == facility.alice
    assert seen["cwd"].startswith(str(facility.jobs))
    assert seen["file"] == account.pw_uid
    assert seen["mode"] == 0o700
    assert set(seen["others"].values()) == {0}
    assert seen["env"]["MINE"] == "1"
    assert {k: seen["env"][k] for k in ("TIER", "NOTE", "RETRIES", "CUT", "VERBOSE")} == {
        "TIER": "mini", "NOTE": "a b", "RETRIES": "3", "CUT": "0.5", "VERBOSE": "true",
    }  # fmt: skip


def by_value(function):
    """The same function as no importable one, so that jobs need not have these tests."""
    import types

    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def test_nothing_of_the_servers_environment_reaches_a_job(facility, dask_client):
    seen = dask_client.run_on_scheduler(by_value(job_of_mine))["env"]
    told = set(seen) & (set(facility.rig.environ) - {"PATH", "HOME", "LANG", "LC_ALL", "USER"})
    assert told <= {"SHELL", "LOGNAME", "PWD", "SHLVL", "_", "LC_CTYPE", "PYTHONUNBUFFERED"}
    assert not any("PENSTOCK" in name for name in set(seen) - {"PENSTOCK_TAG", "PENSTOCK_INDEX"})


def test_more_workers_than_the_profile_allows(cluster, dask_client):
    with pytest.warns(GatewayWarning, match="at most 2 workers.*5 were asked for, 2 are granted"):
        cluster.scale(5)
    dask_client.wait_for_workers(2, timeout=120)
    with pytest.warns(GatewayWarning, match="at most 2 workers"):
        cluster.adapt(minimum=1, maximum=50)
    cluster.scale(1)


def test_two_addresses_are_like_two_gateways(facility):
    with (
        facility.client(facility.alice) as small,
        facility.client(facility.alice, facility.addresses[1]) as wide,
    ):
        assert small.cluster_options().profile == "small"
        assert wide.cluster_options().profile == "wide"
        assert wide.cluster_options().worker_cores == 2
        with wide.new_cluster() as cluster:
            cluster.scale(1)
            with cluster.get_client() as dask_client:
                dask_client.wait_for_workers(1, timeout=120)
                assert list(dask_client.nthreads().values()) == [2]
            assert wide.get_cluster(cluster.name).options["profile"] == "wide"


def test_a_profile_of_a_group_is_for_its_members(facility, clients):
    alice, bob = clients
    with pytest.raises(
        ValueError, match="profile must be one of 'small', 'wide', not 'production'"
    ):
        alice.new_cluster(profile="production")
    name = bob.submit(profile="production")
    assert bob.get_cluster(name).options["profile"] == "production"
    bob.stop_cluster(name)
    wait_until(lambda: bob.get_cluster(name).status.name == "STOPPED", "it stops")
    specs = {each["field"]: each for each in options_of(facility, facility.alice)}
    assert specs["profile"]["spec"]["options"] == ["small", "wide"]
    specs = {each["field"]: each for each in options_of(facility, facility.bob)}
    assert specs["profile"]["spec"]["options"] == ["small", "wide", "production"]


def options_of(facility, user):
    import json

    status, text, _ = facility.ask(user, "GET", "/api/v1/options")
    assert status == 200
    return json.loads(text)["cluster_options"]


def test_options_of_every_kind_are_in_the_clients_form(facility, clients):
    specs = {each["field"]: each for each in options_of(facility, facility.alice)}
    assert {name: specs[name]["spec"]["type"] for name in specs} == {
        "profile": "select", "worker_cores": "int", "worker_memory": "float", "env": "mapping",
        "venv": "string", "conda_env": "string", "pixi_project": "string",
        "pixi_env": "string", "tier": "select", "note": "string", "retries": "int", "cut": "float",
        "verbose": "bool", "site": "mapping",
    }  # fmt: skip
    options = clients[0].cluster_options()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert options._widget() is not None
    with pytest.raises((TypeError, ValueError)):
        options.retries = 10
    with pytest.raises((TypeError, ValueError)):
        options.tier = "aod"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tier": "aod"}, "tier must be one of 'nano', 'mini'"),
        ({"note": "UPPER"}, r"note must .*\[a-z \]\*"),
        ({"note": "a" * 21}, "note must .*20"),
        ({"note": "a\nb"}, "note must"),
        ({"retries": 10}, "retries must .*0.*9"),
        ({"retries": 1.5}, "retries must .*whole"),
        ({"cut": float("1e308")}, "cut must .*0.*1"),
        ({"cut": True}, "cut must"),
        ({"verbose": "yes"}, "verbose must be true or false"),
        ({"site": [1]}, "site must be a mapping"),
        ({"worker_cores": 3}, "worker_cores must .*1.*2"),
        ({"worker_memory": "4 GiB"}, "worker_memory must .*512 MiB to 2 GiB"),
        ({"tear": "nano"}, "'?tear'? is no option here.*tier"),
    ],
)
def test_wrong_options_are_told_with_what_is_allowed(clients, options, words):
    with pytest.raises(ValueError, match=words):
        clients[0].new_cluster(**options)


@pytest.mark.parametrize("place", ["missing", "private"])
def test_an_environment_that_the_user_cannot_see_is_told(facility, clients, place):
    venv = facility.rig.directory / place
    if place == "private":  # root's alone
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to("/usr/bin/python3")
        venv.chmod(0o700)
    words = {"missing": "/bin/python is missing", "private": "permission denied"}[place]
    with pytest.raises(ValueError, match=words) as caught:
        clients[0].new_cluster(venv=str(venv))
    assert f"{venv}/bin/python" in str(caught.value)
