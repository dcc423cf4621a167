"""Limits of time, with real clusters: each ends the cluster, and says which one it was."""

from __future__ import annotations

import json

import pytest
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.facility import running_facility
from rigs.gateway import wait_until

MORE = "".join(
    f"""
[profiles.{name}.scheduler]
python = "{python}"

[profiles.{name}.workers.default]
python = "{{python}}"

[profiles.{name}.limits]
{limit}
"""
    for name, python, limit in [
        ("lonely", "{python}", 'no_client_timeout = "2 s"'),
        ("idle", "{python}", 'idle_timeout = "3 s"'),
        ("brief", "{python}", 'max_lifetime = "4 s"'),
        ("mute", "{directory}/mute", 'start_timeout = "2 s"'),
    ]
)


MORE += """
[profiles.shifts.scheduler]
python = "{python}"

[profiles.shifts.workers.default]
python = "{python}"
nanny = false
extras = {{ lifetime = "20 s" }}
"""

WAITING = ("queued", "unrunnable")


@pytest.fixture(scope="module")
def facility(unix_users):
    with running_facility(unix_users, MORE) as facility:
        mute = facility.rig.directory / "mute"
        mute.write_text("#!/bin/sh\necho still thinking\nexec sleep 1000\n")
        mute.chmod(0o755)
        yield facility


@pytest.fixture
def client(facility):
    with facility.client(facility.alice) as client:
        yield client


@pytest.mark.parametrize(
    ("profile", "status", "kind", "reason"),
    [
        (
            "lonely",
            "STOPPED",
            "no-client-timeout",
            "No client was connected for 2 s (no_client_timeout).",
        ),
        ("brief", "STOPPED", "max-lifetime", "maximum lifetime of 4 s (max_lifetime)."),
        ("mute", "FAILED", "start-timeout", "without reporting to the gateway (start_timeout)."),
    ],
)
def test_a_limit_ends_the_cluster_with_its_reason(facility, client, profile, status, kind, reason):
    name = client.submit(profile=profile)
    wait_until(lambda: client.get_cluster(name).status is ClusterStatus[status], "it ends", 120)
    with pytest.raises(GatewayClusterError, match=r"stopped|failed") as caught:
        client.connect(name)
    assert reason in str(caught.value)
    told(facility, name, kind, reason)


def told(facility, name, kind, reason):
    """The events say it too, and so does ``penstock show``."""
    answer = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{name}/events")
    events = json.loads(answer[1])["events"]
    assert [reason in event["text"] for event in events if event["kind"] == kind] == [True]
    shown = facility.cli(facility.alice, "show", name).stdout
    assert reason in shown


def test_an_idle_cluster_ends_but_not_while_tasks_wait(facility, client):
    with client.new_cluster(profile="idle", shutdown_on_close=False) as cluster:
        with cluster.get_client() as dask_client:
            # Nobody can run it, as there are no workers: that is waiting and not idling.
            waiting = dask_client.submit(lambda: 1, pure=False)
            wait_until(
                lambda: any(map(live(facility, cluster.name)["tasks"].get, WAITING)),
                "it is reported",
            )
            seen = live(facility, cluster.name)["at"]
            wait_until(
                lambda: live(facility, cluster.name)["at"] > seen + 6, "two limits later", 60
            )
            assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING
            del waiting
            wait_until(
                lambda: client.get_cluster(cluster.name).status is ClusterStatus.STOPPED,
                "it ends though a client is connected",
                60,
            )
        told(facility, cluster.name, "idle-timeout", "had no tasks for 3 s (idle_timeout).")


def live(facility, name):
    answer = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{name}/live")
    return json.loads(answer[1])["report"] or {"tasks": {}, "at": 0}


def test_workers_are_replaced_before_their_time_is_over(facility, client):
    with client.new_cluster(profile="shifts") as cluster, cluster.get_client() as dask_client:
        cluster.scale(2)
        dask_client.wait_for_workers(2, timeout=120)

        def names():
            return {worker["name"] for worker in dask_client.scheduler_info()["workers"].values()}

        first = names()
        wait_until(lambda: len(names() - first) >= 2, "others have followed", 120)
        answer = facility.ask(facility.alice, "GET", f"/api/v1/clusters/{cluster.name}/events")
        events = [event["text"] for event in json.loads(answer[1])["events"]]
        assert any("time is over" in text for text in events)
        assert not [text for text in events if "exited" in text], "nobody died"
