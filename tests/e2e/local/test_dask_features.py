"""What people do with a Dask client all day, on a cluster of the gateway with nannies, as by default."""

from __future__ import annotations

import os
import sys

import cloudpickle
import pytest
from dask_gateway import BasicAuth
from dask_gateway.client import ClusterStatus
from distributed import (
    Event,
    Lock,
    Queue,
    Semaphore,
    Variable,
    WorkerPlugin,
    as_completed,
    fire_and_forget,
    performance_report,
)

from penstock.client import Gateway
from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def cluster(gateway):
    # Jobs have nothing of these tests, as they have nothing of a notebook.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with gateway.client() as client, client.new_cluster(worker_cores=1) as cluster:
        cluster.scale(2)
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.get_client() as client:
        client.wait_for_workers(2, timeout=120)
        yield client


def workers(client) -> dict[str, str]:
    """Name → address."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    return {worker["name"]: address for address, worker in found.items()}


def process(_=None) -> int:
    return os.getpid()


def test_versions_agree(client):
    assert client.get_versions(check=True)["scheduler"]


def test_a_restart_gives_new_processes_under_the_same_names(cluster, client):
    names, before = set(workers(client)), set(client.run(process).values())
    future = client.submit(pow, 2, 3, pure=False)
    assert future.result(timeout=60) == 8
    client.restart(timeout=60)
    client.wait_for_workers(2, timeout=60)
    assert set(workers(client)) == names
    assert not set(client.run(process).values()) & before
    assert client.submit(pow, 2, 4).result(timeout=60) == 16


def test_one_worker_is_restarted(client):
    name, address = sorted(workers(client).items())[0]
    [before] = client.run(process, workers=[address]).values()
    client.restart_workers([address], timeout=60)
    client.wait_for_workers(2, timeout=60)
    [after] = client.run(process, workers=[workers(client)[name]]).values()
    assert before != after


def test_a_worker_that_somebody_retires_is_replaced(client):
    name, address = sorted(workers(client).items())[-1]
    data = client.scatter(list(range(10)), workers=[address], hash=False)
    client.retire_workers([address])
    wait_until(lambda: name not in workers(client), "it is gone")
    wait_until(lambda: len(workers(client)) == 2, "another one is there", 90)
    assert client.gather(data) == list(range(10))


def test_files_and_plugins_reach_workers_of_now_and_later(cluster, client, tmp_path):
    (tmp_path / "penstock_helpers.py").write_text("def twice(number):\n    return 2 * number\n")
    client.upload_file(str(tmp_path / "penstock_helpers.py"))

    class Marks(WorkerPlugin):
        name = "marks"

        def setup(self, worker):
            worker.marked = True

    client.register_plugin(Marks())
    cluster.scale(3)
    client.wait_for_workers(3, timeout=120)

    def use(number):
        from penstock_helpers import twice

        return twice(number)

    for address in workers(client).values():
        assert client.submit(use, 4, workers=[address], pure=False).result(timeout=60) == 8
    assert set(client.run(lambda dask_worker: dask_worker.marked).values()) == {True}
    cluster.scale(2)
    wait_until(lambda: len(workers(client)) == 2, "one goes")


def test_things_that_are_shared(client):
    def step(number):
        with Lock("turn"), Semaphore(name="two", max_leases=2):
            Queue("results").put(number)
        return number

    futures = client.map(step, range(6), pure=False)
    assert sorted(future.result() for future in as_completed(futures)) == list(range(6))
    assert sorted(Queue("results").get(timeout=10) for _ in range(6)) == list(range(6))
    Variable("answer").set(42)
    assert client.submit(lambda: Variable("answer").get(timeout=10), pure=False).result() == 42
    fire_and_forget(client.submit(lambda: Event("done").set(), pure=False))
    assert Event("done").wait(timeout=30)
    client.publish_dataset(numbers=futures)
    assert sum(client.gather(client.get_dataset("numbers"))) == 15
    client.unpublish_dataset("numbers")


def test_actors(client):
    class Counter:
        def __init__(self):
            self.number = 0

        def more(self):
            self.number += 1
            return self.number

    counter = client.submit(Counter, actor=True).result(timeout=60)
    assert [counter.more().result() for _ in range(3)] == [1, 2, 3]


def test_data_is_spread(client):
    data = client.scatter(
        list(range(8)), workers=[next(iter(workers(client).values()))], hash=False
    )
    client.replicate(data, n=2)
    client.rebalance()
    assert client.gather(data) == list(range(8))


def test_reports_profiles_and_logs(client, tmp_path):
    report = tmp_path / "report.html"
    with performance_report(str(report)):
        client.gather(client.map(lambda n: sum(range(n)), range(20), pure=False))
    assert "bokeh" in report.read_text().lower()
    assert len(client.get_task_stream(count=20)) >= 20
    assert client.profile()["count"] >= 0
    assert client.get_scheduler_logs()
    assert set(client.get_worker_logs()) == set(workers(client).values())
    client.log_event("mine", {"text": "here"})
    assert client.get_events("mine")[0][1] == {"text": "here"}


def test_what_tasks_print_and_log_reaches_the_notebook(client, capsys):
    def speak():
        from distributed import print as say

        say("hello from afar")

    client.submit(speak, pure=False).result(timeout=60)
    heard = []
    wait_until(lambda: heard.append(capsys.readouterr().out) or "hello" in "".join(heard), "heard")


def test_errors_come_back_as_they_are(client):
    future = client.submit(lambda: 1 / 0, pure=False)
    with pytest.raises(ZeroDivisionError):
        future.result(timeout=60)
    client.retry([future])
    with pytest.raises(ZeroDivisionError):
        future.result(timeout=60)


def test_the_dask_client_ends_the_cluster(gateway):
    """With ``dask_gateway``'s own cluster object this waits for ever."""
    auth = BasicAuth(gateway.user, gateway.password)
    with Gateway(gateway.address, auth=auth) as more:
        cluster = more.new_cluster()
        client = cluster.get_client()
        client.shutdown()
        assert (client.status, cluster.status) == ("closed", "closed")
        wait_until(
            lambda: more.get_cluster(cluster.name).status is ClusterStatus.STOPPED, "it stops"
        )
