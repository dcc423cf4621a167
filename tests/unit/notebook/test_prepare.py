"""A batch made fit for the place where a notebook submits it."""

import json
import time

import pytest

from penstock.client import proxy as proxies
from penstock.environment.container import ENTER, ORDER, PROXY
from penstock.model.errors import Unavailable
from penstock.model.ids import BatchId
from penstock.model.job import Batch, Role
from penstock.notebook.prepare import prepare
from rigs.certificates import write_proxy

BATCH = Batch(
    BatchId("0123abcd", "a" * 32, 1),
    "alice",
    Role.WORKER,
    1,
    ("/opt/gateway/bin/python", "penstock_agent.py"),
    {"HOME": "/home/gateway", "USER": "gw", "A": "b"},
    {"penstock_agent.py": b"x"},
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch, tmp_path):
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "x509up"))
    monkeypatch.setattr(proxies, "find_proxy", lambda: None)


def made(setup, batch=BATCH):
    return prepare(batch, {"proxy": False, **setup}, "jovyan", "/home/jovyan")


def test_without_an_image_only_the_account_changes():
    batch = made({})
    assert batch.command == BATCH.command
    assert batch.env == {"HOME": "/home/jovyan", "USER": "jovyan", "LOGNAME": "jovyan", "A": "b"}
    assert batch.files == BATCH.files


def test_the_python_of_the_notebooks_site():
    assert made({"python": "/opt/py"}).command == ("/opt/py", "penstock_agent.py")


def test_in_an_image():
    batch = made(
        {"image": "/x.sif", "apptainer": "/bin/a", "bind": ["/scratch"], "options": ["-e"]}
    )
    assert batch.command == ("python3", ENTER)
    order = json.loads(batch.files[ORDER])
    # A path on the gateway's machine means nothing in there.
    assert order["command"] == ["python3", "penstock_agent.py"]
    assert order["container"] == {
        "image": "/x.sif",
        "apptainer": "/bin/a",
        "bind": ["/scratch"],
        "options": ["-e"],
    }
    assert (order["proxy"], PROXY in batch.files) == ("", False)
    assert batch.files["penstock_agent.py"] == b"x"


def test_the_clusters_own_image_is_taken_unless_the_notebook_names_one():
    import dataclasses

    batch = dataclasses.replace(BATCH, extras={"container_image": "/kept.sif", "rank": "Memory"})
    order = json.loads(made({"image": ""}, batch).files[ORDER])
    assert order["container"]["image"] == "/kept.sif"
    order = json.loads(made({"image": "/mine.sif"}, batch).files[ORDER])
    assert order["container"]["image"] == "/mine.sif"
    assert made({"image": ""}, batch).extras == {"rank": "Memory"}


def test_a_proxy_travels_as_a_file_and_is_read_anew_for_each_batch(tmp_path):
    path = tmp_path / "x509up"
    write_proxy(path, hours=1)
    batch = made({"proxy": True})
    assert batch.files[PROXY] == path.read_bytes()
    assert json.loads(batch.files[ORDER])["proxy"] == PROXY
    assert path.read_text() not in json.dumps([batch.command, dict(batch.env)])
    write_proxy(path, hours=2)
    assert made({"proxy": True}).files[PROXY] == path.read_bytes()
    write_proxy(path, hours=-1)
    with pytest.raises(Unavailable, match="has expired; renew it"):
        made({"proxy": True})
    path.unlink()
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        made({"proxy": True})


def test_how_long_a_proxy_is_good(tmp_path):
    write_proxy(tmp_path / "p", hours=2)
    ends = proxies.expiry((tmp_path / "p").read_bytes())
    assert ends is not None
    assert 7100 < ends - time.time() < 7300
    assert proxies.expiry(b"rubbish") is None
