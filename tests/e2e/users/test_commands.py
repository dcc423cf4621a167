"""``penstock list``, ``show``, ``logs`` and ``end`` as a user types them."""

from __future__ import annotations

import pytest

from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def cluster(facility):
    with (
        facility.client(facility.alice) as client,
        client.new_cluster(env={"SECRET": "word"}, note="two words") as cluster,
    ):
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
        yield cluster


def test_list(facility, cluster):
    shown = facility.cli(facility.alice, "list").stdout
    line = next(line for line in shown.splitlines() if cluster.name in line)
    assert "running" in line
    assert "profile=small" in line
    assert "word" not in line.replace("two words", "")  # variables may be secrets
    assert "no clusters" in facility.cli(facility.bob, "list").stdout


def test_show_by_the_beginning_of_a_name_or_without_one(facility, cluster):
    for name in ([cluster.name], [cluster.name[:6]], []):
        shown = facility.cli(facility.alice, "show", *name).stdout
        assert shown.startswith(cluster.name)
        assert "running" in shown
        assert "Created with profile small" in shown


def test_show_tells_the_state_of_its_workers(facility, cluster):
    def told():
        return "1 worker" in facility.cli(facility.alice, "show").stdout

    wait_until(told, "the worker is reported")
    assert "1 wanted" in facility.cli(facility.alice, "show").stdout


def test_show_lists_its_jobs(facility, cluster):
    for more in ([], ["--jobs"]):
        lines = facility.cli(facility.alice, "show", *more).stdout.splitlines()
        for job in ("s0-0", "w1-0"):
            [line] = [line for line in lines if line.startswith(job)]
            assert line.split()[1] == "running"
            assert "since" in line


def test_logs(facility, cluster):
    assert "channel to" in facility.cli(facility.alice, "logs").stdout
    assert facility.cli(facility.alice, "logs", cluster.name, "w1-0").stdout
    assert facility.cli(facility.alice, "logs", "w1-0").stdout
    wrong = facility.cli(facility.alice, "logs", cluster.name, "w99-0", check=False)
    assert wrong.returncode == 1
    assert "no job 'w99-0'" in wrong.stderr


@pytest.mark.parametrize("command", ["show", "logs", "end"])
def test_what_is_not_there(facility, cluster, command):
    for user, name in ((facility.bob, cluster.name), (facility.alice, "zzz")):
        done = facility.cli(user, command, name, check=False)
        assert done.returncode == 1
        assert "Error: " in done.stderr
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_password_is_told_in_words(facility):
    done = facility.cli(facility.alice, "list", password="wrong", check=False)
    assert done.returncode == 1
    assert "does not accept your login" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_gateway_there_is_told_in_words(facility):
    done = facility.cli(facility.alice, "list", "--address", "http://127.0.0.1:9", check=False)
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_end(facility):
    with facility.client(facility.bob) as client:
        names = [client.submit(), client.submit()]
        done = facility.cli(facility.bob, "end", names[0][:8], names[1])
        assert all(name in done.stdout for name in names)
        for name in names:
            wait_until(lambda n=name: client.get_cluster(n).status.name == "STOPPED", "it stops")
        shown = facility.cli(facility.bob, "list", "--all").stdout
        assert shown.count("stopped") == 2


def test_an_admin_ends_a_cluster_by_its_whole_name(facility):
    with facility.client(facility.bob) as client:
        name = client.submit()
        facility.cli(facility.admin, "end", name)
        wait_until(lambda: client.get_cluster(name).status.name == "STOPPED", "it stops")
        assert f"stopped by {facility.admin}" in facility.cli(facility.bob, "show", name).stdout
