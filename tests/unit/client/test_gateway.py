"""How ``HTCGateway`` finds address and login."""

import dask
import pytest
from dask_gateway.auth import BasicAuth, JupyterHubAuth

from penstock.client.gateway import GatewayCluster
from penstock.client.htcondor import HTCGateway, HTCGatewayCluster


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)


def made(section, *args, **kwargs):
    whole = {**dask.config.get("gateway"), **section}
    with dask.config.set({"gateway": whole}), HTCGateway(*args, **kwargs) as gateway:
        return gateway


def test_the_names_of_before():
    import htcdaskgateway

    assert htcdaskgateway.HTCGateway is HTCGateway


def test_ncsas_arguments():
    auth = BasicAuth(username=None, password="x")
    gateway = made({}, address="https://dask.example.org", proxy_address=8786, auth=auth)
    assert gateway.address == "https://dask.example.org"
    assert gateway.proxy_address == "gateway://dask.example.org:8786"
    assert gateway.auth is auth


def test_fermilabs_address_and_hub_token(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token of the hub")
    gateway = made({"address": "https://dask.example.org"})
    assert gateway.address == "https://dask.example.org"
    assert isinstance(gateway.auth, JupyterHubAuth)
    assert gateway.auth.api_token == "token of the hub"


def test_what_is_configured_wins_over_a_hub_token(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token of the hub")
    login = {"type": "basic", "kwargs": {"username": "alice", "password": "x"}}
    gateway = made({"address": "https://dask.example.org", "auth": login})
    assert isinstance(gateway.auth, BasicAuth)
    assert gateway.auth.username == "alice"


def test_an_address_in_the_environment(monkeypatch):
    monkeypatch.setenv("DASK_GATEWAY__ADDRESS", "https://late.example.org")
    assert made({}).address == "https://late.example.org"


def test_a_cluster_without_a_gateway_finds_both_too(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token of the hub")
    given = {}
    monkeypatch.setattr(GatewayCluster, "_init_internal", lambda self, **all: given.update(all))
    whole = {**dask.config.get("gateway"), "address": "https://dask.example.org"}
    with dask.config.set({"gateway": whole}):
        HTCGatewayCluster(worker_cores=2)
        assert (given["address"], given["cluster_kwargs"]) == (
            whole["address"],
            {"worker_cores": 2},
        )
        assert isinstance(given["auth"], JupyterHubAuth)
        given.clear()
        HTCGatewayCluster.from_name("a" * 32)
        assert (given["address"], given["name"]) == (whole["address"], "a" * 32)
        assert isinstance(given["auth"], JupyterHubAuth)


@pytest.mark.parametrize("word", ["image", "apptainer_image"])
def test_an_image_by_either_word(monkeypatch, tmp_path, word):
    monkeypatch.setattr(GatewayCluster, "_init_internal", lambda self, **all: None)
    base = tmp_path / "cvmfs"
    (base / "registry.hub.docker.com" / "a" / "b:1").mkdir(parents=True)
    with dask.config.set({"gateway.htcondor": {"image-base": str(base)}}):
        cluster = HTCGatewayCluster("http://there", auth="basic", **{word: "a/b:1"})
        with pytest.raises(ValueError, match=r"There is no image .*; did you mean .*b:1\?"):
            HTCGatewayCluster(**{word: "a/b:2"})
    assert cluster._image == f"{base}/registry.hub.docker.com/a/b:1"
