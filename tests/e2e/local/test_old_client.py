"""The oldest client that is supported, in an environment of its time, and mixed with the newest.

The notebook and its cluster share an environment with dask-gateway 2024.1.0 and a Dask of those
days; the gateway is today's.
"""

from __future__ import annotations

import pytest

from rigs.environments import environment
from rigs.gateway import running_gateway
from rigs.notebooks import run_notebook

NOTEBOOK = """
import warnings
from urllib.request import urlopen
import dask_gateway, distributed
from dask_gateway.client import ClusterStatus

gateway = Gateway(given["address"], auth=auth)
out["versions"] = gateway.get_versions()
out["distributed"] = distributed.__version__
options = gateway.cluster_options()
out["option names"] = sorted(options)
options.worker_memory = 1
options.venv = given["venv"]
out["wrong value"] = words(setattr, options, "worker_cores", "many")
out["options widget"] = repr(options._widget())

cluster = gateway.new_cluster(options)
name = out["name"] = cluster.name
out["repr"] = repr(cluster)
out["widget"] = repr(cluster._widget())
out["html"] = cluster._repr_html_()
with urlopen(cluster.dashboard_link, timeout=60) as page:
    out["dashboard"] = [page.status, b"bokeh" in page.read().lower()]

client = cluster.get_client()
# Not wait_for_workers: these versions of distributed and dask-gateway do not fit each other there.
serving = lambda: len(client.scheduler_info()["workers"])
cluster.scale(2)
until(lambda: serving() == 2, "two serve")
out["sum"] = sum(client.gather(client.map(lambda i: i * i, range(20))))
out["mismatch"] = words(client.get_versions, check=True)[:60]
cluster.scale(1)
until(lambda: serving() == 1, "one leaves")
cluster.adapt(minimum=2, maximum=3)
until(lambda: serving() >= 2, "one comes")
cluster.adapt(active=False)
cluster.scale(0)
until(lambda: serving() == 0, "all leave")

out["listed"] = [report.name for report in gateway.list_clusters()]
report = gateway.get_cluster(name)
out["report"] = [report.status.name, report.options["worker_memory"], report.stop_time]
with gateway.connect(name) as same:
    out["connected"] = same.name
with GatewayCluster.from_name(name, address=given["address"], auth=auth) as same:
    out["from name"] = same.name

out["not found"] = words(gateway.get_cluster, "0" * 32)
out["unknown option"] = words(gateway.new_cluster, colour="blue")
out["negative"] = words(cluster.scale, -1)
out["broken start"] = words(gateway.new_cluster, venv=given["broken"])

client.close()
cluster.shutdown()
until(lambda: gateway.get_cluster(name).status is ClusterStatus.STOPPED, "it stops")
out["scale when stopped"] = words(gateway.scale_cluster, name, 1)
out["connect when stopped"] = words(gateway.connect, name)
with gateway.new_cluster(venv=given["venv"], shutdown_on_close=True) as second:
    second_name = second.name
until(lambda: gateway.get_cluster(second_name).status is ClusterStatus.STOPPED, "on close")
out["left"] = [report.name for report in gateway.list_clusters()]
out["ever"] = len(gateway.list_clusters(status=["stopped", "failed"]))
gateway.close()
"""


@pytest.fixture(scope="module")
def gateway():
    with running_gateway() as rig:
        broken = rig.directory / "broken" / "bin"
        broken.mkdir(parents=True)
        python = broken / "python"
        python.write_text("#!/bin/sh\necho 'the tape robot dropped the tape' >&2\nexit 3\n")
        python.chmod(0o755)
        yield rig


@pytest.fixture(scope="module")
def old():
    return environment("old")


@pytest.fixture(scope="module")
def notebook(gateway, old):
    """All that the oldest client did and saw, in one session."""
    venv, broken = str(old.parent.parent), str(gateway.directory / "broken")
    return run_notebook(gateway, old, NOTEBOOK, venv=venv, broken=broken)


def test_it_is_the_oldest(notebook):
    assert notebook["versions"]["client"]["version"] == "2024.1.0"
    assert notebook["versions"]["server"]["version"]
    assert notebook["distributed"] < "2025"


def test_options(notebook):
    assert {"profile", "worker_cores", "worker_memory", "env", "venv"} <= set(
        notebook["option names"]
    )
    assert notebook["wrong value"].startswith(("TypeError", "ValueError"))


def test_it_shows_itself_without_widgets(notebook):
    assert notebook["repr"] == f"GatewayCluster<{notebook['name']}, status=running>"
    assert notebook["widget"] == notebook["options widget"] == "None"
    assert notebook["name"] in notebook["html"]
    assert notebook["dashboard"] == [200, True]


def test_it_computes_and_scales(notebook):
    assert notebook["sum"] == sum(i * i for i in range(20))
    assert not notebook["mismatch"].startswith("no error: None")


def test_it_finds_its_cluster_again(notebook):
    name = notebook["name"]
    assert notebook["listed"] == [name]
    assert notebook["report"] == ["RUNNING", 1, None]
    assert notebook["connected"] == notebook["from name"] == name
    assert notebook["left"] == []
    assert notebook["ever"] == 3


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("not found", "ValueError", "not found"),
        ("unknown option", "ValueError", "colour"),
        ("negative", "ValueError", "non-negative"),
        ("broken start", "GatewayClusterError", "the tape robot dropped the tape"),
        ("scale when stopped", "GatewayClusterError", "stopped"),
        ("connect when stopped", "GatewayClusterError", "stopped"),
    ],
)
def test_errors_become_its_exceptions(notebook, what, kind, text):
    assert notebook[what].startswith(f"{kind}: ")
    assert text in notebook[what]


def test_the_newest_client_is_told_that_its_cluster_is_too_old(gateway, old):
    with gateway.client() as client, client.new_cluster(venv=str(old.parent.parent)) as cluster:
        cluster.scale(1)  # all that the gateway itself does is as ever
        with pytest.raises(RuntimeError, match=r"runs distributed 202[34].* Use one environment"):
            cluster.get_client()
        assert cluster.status == "running"


MIXED = """
import warnings
gateway = Gateway(given["address"], auth=auth)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with gateway.new_cluster() as cluster:
        client = cluster.get_client()
        cluster.scale(1)
        until(lambda: client.scheduler_info()["workers"], "a worker serves")
        out["result"] = words(client.submit(sum, [1, 2]).result, timeout=60)
        client.close()
out["warnings"] = [str(warning.message) for warning in caught]
gateway.close()
"""


def test_the_oldest_client_is_told_that_its_cluster_is_too_new(gateway, old):
    notebook = run_notebook(gateway, old, MIXED)
    told = next(text for text in notebook["warnings"] if "Mismatched versions" in text)
    assert "distributed | 2023.12.1" in told
    # What comes of it is Dask's affair, but it comes at once.
    assert notebook["result"].startswith(("CancelledError", "no error: 3"))
