"""The unmodified ``dask_gateway`` client, every public method, as a notebook uses it."""

import subprocess
import sys
import warnings

import dask
import pytest
from dask_gateway import BasicAuth, Gateway, GatewayCluster
from dask_gateway.client import ClusterStatus, GatewayClusterError

from rigs.gateway import wait_until


@pytest.fixture(scope="module")
def client(gateway):
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="module")
def cluster(client):
    """One cluster with two workers for all tests that only look."""
    with client.new_cluster() as cluster:
        cluster.scale(2)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(2, timeout=120)
        yield cluster


def test_gateway_without_arguments_works_from_any_process_of_this_user(gateway):
    code = "from dask_gateway import Gateway; g = Gateway(); print(g.address, g.list_clusters())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**gateway.environ, "DASK_CONFIG": str(gateway.dask_config.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split()[0] == gateway.address, done.stderr
    assert gateway.dask_config.stat().st_mode & 0o777 == 0o600


def test_a_wrong_password_is_refused(gateway):
    with (
        Gateway(gateway.address, auth=BasicAuth(gateway.user, "wrong")) as stranger,
        pytest.raises(Exception, match="401"),
    ):
        stranger.list_clusters()


def test_versions(client):
    versions = client.get_versions()
    assert versions["server"]["version"]
    assert versions["client"]["version"]


def test_options_are_typed_and_make_a_widget(client):
    options = client.cluster_options()
    assert {"profile", "worker_cores", "worker_memory", "env", "venv"} <= set(options)
    with pytest.raises((TypeError, ValueError)):
        options.worker_cores = "many"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert options._widget() is not None


def test_it_computes(cluster):
    with cluster.get_client() as client:
        assert client.submit(sum, [1, 2, 3]).result(timeout=60) == 6
        names = {
            worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()
        }
    assert all(name.startswith("w") for name in names)


def test_reports(client, cluster):
    report = client.get_cluster(cluster.name)
    assert report.status is ClusterStatus.RUNNING
    assert report.scheduler_address.endswith(cluster.name)
    assert report.security is not None
    assert report.stop_time is None
    assert report.options["worker_cores"] == 1
    assert cluster.name in [found.name for found in client.list_clusters()]
    assert client.list_clusters(status="stopping") == []
    assert cluster.name in [c.name for c in client.list_clusters(status=["running", "failed"])]


def test_the_dashboard_link_opens_without_a_prompt(client, cluster):
    import urllib.request

    with urllib.request.urlopen(cluster.dashboard_link, timeout=60) as page:
        assert page.status == 200
        assert b"Bokeh" in page.read() or b"bokeh" in page.read()


def test_widget_and_html(cluster):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cluster._widget() is not None
    assert cluster.name in cluster._repr_html_()


def test_connect_and_from_name_reach_the_same_cluster(gateway, client, cluster):
    with client.connect(cluster.name) as same, same.get_client() as dask_client:
        assert dask_client.submit(abs, -1).result(timeout=60) == 1
    by_name = GatewayCluster.from_name(
        cluster.name, address=gateway.address, auth=BasicAuth(gateway.user, gateway.password)
    )
    with by_name:
        assert by_name.dashboard_link.startswith(gateway.address)
    assert client.get_cluster(cluster.name).status is ClusterStatus.RUNNING


def test_scale_up_and_down(client):
    with client.new_cluster(worker_cores=1) as cluster, cluster.get_client() as dask_client:
        cluster.scale(3)
        dask_client.wait_for_workers(3, timeout=120)
        kept = dask_client.scatter(list(range(20)))
        cluster.scale(1)
        wait_until(
            lambda: len(dask_client.scheduler_info(n_workers=-1)["workers"]) == 1, "one worker left"
        )
        assert dask_client.gather(kept) == list(range(20))
        client.scale_cluster(cluster.name, 0)
        wait_until(
            lambda: not dask_client.scheduler_info(n_workers=-1)["workers"], "no worker left"
        )


def test_adapt_follows_the_work(client):
    import time

    with client.new_cluster() as cluster, cluster.get_client() as dask_client:
        cluster.adapt(minimum=0, maximum=2)
        futures = dask_client.map(lambda i: time.sleep(0.5) or i, range(12), pure=False)
        assert sum(dask_client.gather(futures)) == 66
        del futures
        wait_until(
            lambda: not dask_client.scheduler_info(n_workers=-1)["workers"],
            "idle workers leave",
            120,
        )
        cluster.adapt(active=False)
        cluster.scale(1)
        dask_client.wait_for_workers(1, timeout=120)


def test_submit_then_scale_while_pending_then_connect(client):
    name = client.submit()
    client.scale_cluster(name, 1)
    with (
        client.connect(name, shutdown_on_close=True) as cluster,
        cluster.get_client() as dask_client,
    ):
        dask_client.wait_for_workers(1, timeout=120)
    wait_until(
        lambda: client.get_cluster(name).status is ClusterStatus.STOPPED, "shutdown_on_close works"
    )
    report = client.get_cluster(name)
    assert report.stop_time is not None
    assert report.security is None


def test_closing_without_shutdown_keeps_the_cluster(client):
    cluster = client.new_cluster(shutdown_on_close=False)
    name = cluster.name
    cluster.close()
    assert client.get_cluster(name).status is ClusterStatus.RUNNING
    client.stop_cluster(name)
    wait_until(lambda: client.get_cluster(name).status is ClusterStatus.STOPPED, "it stops")
    client.stop_cluster(name)  # once more is fine
    with pytest.raises(GatewayClusterError, match="stopped"):
        client.scale_cluster(name, 1)
    with pytest.raises(GatewayClusterError, match="stopped"):
        client.connect(name)


def test_unknown_clusters_are_told(client):
    for call in (client.get_cluster, client.stop_cluster, client.connect):
        with pytest.raises(ValueError, match="not found"):
            call("0" * 32)
    with pytest.raises(ValueError, match="not found"):
        client.scale_cluster("..%2f..%2fetc%2fpasswd", 1)


def test_wrong_options_are_told_before_anything_starts(client, cluster):
    with pytest.raises(ValueError, match="worker_cores"):
        client.new_cluster(worker_cores="many")
    with pytest.raises(ValueError, match="colour"):
        client.new_cluster(colour="blue")
    with pytest.raises(ValueError, match="non-negative"):
        client.scale_cluster(cluster.name, -1)


def test_a_failed_start_tells_the_real_reason(client, tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'the disk of this environment is on fire' >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(GatewayClusterError, match="the disk of this environment is on fire"):
        client.new_cluster(venv=str(tmp_path))


def test_env_arrives_byte_for_byte(client):
    env = {
        "PLAIN": "x",
        "LINES": "a\nb\r\n\tc",
        "QUOTES": "'\"`$(touch /tmp/pwned)`\\ $HOME ; & |",
        "UNICODE": "käse ☃ 日本",
        "LONG": "0123456789" * 10_000,
    }
    with client.new_cluster(env=env) as cluster, cluster.get_client() as dask_client:
        cluster.scale(1)

        def look(names):
            import os

            return {name: os.environ.get(name) for name in names}

        assert dask_client.submit(look, list(env)).result(timeout=120) == env
        assert dask_client.run_on_scheduler(look, list(env)) == env


async def test_asynchronous_use(gateway):
    async with gateway.client(asynchronous=True) as client:
        async with client.new_cluster() as cluster:
            await cluster.scale(1)
            async with cluster.get_client() as dask_client:
                assert await dask_client.submit(sum, [1, 2]) == 3
            assert (await client.get_cluster(cluster.name)).status is ClusterStatus.RUNNING
            name = cluster.name
        assert (await client.get_cluster(name)).status in (
            ClusterStatus.STOPPING,
            ClusterStatus.STOPPED,
        )
        options = await client.cluster_options()
        assert "worker_memory" in options


def test_options_object_and_local_defaults(client):
    options = client.cluster_options()
    options.worker_memory = 1
    defaults = dask.config.set({"gateway.cluster.options": {"worker_cores": 1}})
    with defaults, client.new_cluster(options) as cluster:
        shown = client.get_cluster(cluster.name).options
    assert shown["worker_memory"] == 1
