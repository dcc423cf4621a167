"""The unmodified clients of Fermilab and NCSA, which bring HTCondor workers themselves.

Both are run as their users run them, from PyPI, with their own submit file and start script. What
they have hard-coded is told in ``rigs.third_party``; the scheduler's host is given by the keyword ""
that both take it from, its port is theirs.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from rigs.environments import environment
from rigs.gateway import running_gateway, wait_until
from rigs.third_party import containers, fermilab

TESTS = Path(__file__).parents[2]

CONFIG = """
[[listen]]
address = "{host}:80"
default_profile = "fermilab"

[[listen]]
address = "{host}:8786"
default_profile = "ncsa"

[backends.local]
type = "local"
directory = "{jobs}"

[auth]
type = "custom"
class = "rigs.hub_auth:HubAuth"

[auth.kwargs]
tokens = {{ "hubs-token" = "{alice}" }}
password = "a password"

[profiles.fermilab.scheduler]
python = "{fermilab}"

[profiles.fermilab.workers]

[profiles.fermilab.options]
image = {{ type = "string" }}
worker_cores = {{ type = "integer", min = 1, max = 4, default = 2 }}
worker_memory = {{ type = "float", min = 1, max = 8, default = 4 }}

[profiles.ncsa.scheduler]
python = "{ncsa}"

[profiles.ncsa.workers]

[profiles.ncsa.options]
image = {{ type = "string" }}
"""

_COMMON = """
import json, os, sys, time, warnings

given = json.loads(os.environ["NOTEBOOK"])
out = {}

def until(condition, what):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.1)

def told(call, *args, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **kwargs)
    return [str(one.message) for one in caught if type(one.message).__name__ == "GatewayWarning"]

def names(client):
    return sorted(one["name"] for one in client.scheduler_info()["workers"].values())
"""

FERMILAB = """
from htcdaskgateway import HTCGateway

gateway = HTCGateway(address=given["address"])
cluster = gateway.new_cluster(**{"": given["host"]})
out["name"] = cluster.name
out["scale"] = told(cluster.scale, 2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=60)
out["names"] = names(client)
out["sum"] = sum(client.gather(client.map(lambda x: x * x, range(100))))
print("READY", json.dumps(out), flush=True)
input()
out["adapt"] = told(cluster.adapt, 0, 3)
cluster.scale(1)
until(lambda: len(names(client)) == 1, "one worker goes")
out["sum"] = sum(client.gather(client.map(lambda x: x * x + 1, range(100))))
client.close()
cluster.shutdown()
print("DONE", json.dumps(out), flush=True)
"""

NCSA = """
from dask_gateway.auth import BasicAuth
from htcdaskgateway import HTCGateway

gateway = HTCGateway(
    address=given["address"],
    proxy_address=8786,
    auth=BasicAuth(username=None, password=os.environ["DASK_GATEWAY_PASSWORD"]),
)
cluster = gateway.new_cluster(
    image="ncsa/dask-public-health:latest", container_image=given["container"], **{"": given["host"]}
)
out["name"] = cluster.name
out["scale"] = told(cluster.scale, 2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=60)
out["names"] = names(client)
out["sum"] = sum(client.gather(client.map(lambda x: x * x, range(100))))
print("READY", json.dumps(out), flush=True)
input()
client.close()
cluster.shutdown()
print("DONE", json.dumps(out), flush=True)
"""


@pytest.fixture(scope="module")
def place():
    """A directory that users can enter and whose path is short."""
    directory = Path(tempfile.mkdtemp(prefix="pk-third-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def gateway(unix_users, place):
    host = f"127.0.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"
    config = CONFIG.format(
        host=host,
        alice=unix_users[0],
        jobs=place / "jobs",
        fermilab=environment("fermilab"),
        ncsa=environment("ncsa"),
    )
    with running_gateway(config, {"PYTHONPATH": str(TESTS)}) as rig:
        yield rig, host


class Notebook:
    """A user's Python session, which says what it found and waits where it is told to."""

    def __init__(self, user, python, script, place, environ, **given):
        home = place / f"home-{python.parent.parent.name}"
        home.mkdir()
        (home / ".profile").write_text("# as every account has it\n")
        account = pwd.getpwnam(user)
        os.chown(home, account.pw_uid, account.pw_gid)
        (place / "notebook.py").write_text(_COMMON + script)
        self.log = place / f"{home.name}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DASK"))}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(python), str(place / "notebook.py")],
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                cwd=home,
                env={
                    **clean,
                    "HOME": str(home),
                    "USER": user,
                    "LOGNAME": user,
                    "NOTEBOOK": json.dumps(given),
                    **environ,
                },
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self, word):
        """What it told after a word; waits for it."""

        def found():
            text = self.log.read_text()
            lines = [line for line in text.splitlines() if line.startswith(word)]
            assert lines or self.process.poll() is None, text + self.jobs_said()
            return lines and lines[-1]

        return json.loads(str(wait_until(found, f"{word}: {self.log}", 120)).removeprefix(word))

    def jobs_said(self):
        """The jobs' own output, for whoever has to find out what is wrong."""
        outputs = [*self.log.parent.rglob("htcdask-worker*.err")]
        return "".join(f"\n{path.name}:\n{path.read_text()[-2000:]}" for path in outputs)

    def go_on(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def notebook(request):
    def start(*args, **given):
        made = Notebook(*args, **given)
        request.addfinalizer(made.end)
        return made

    return start


def ask(rig, user, path):
    import urllib.request
    from base64 import b64encode

    request = urllib.request.Request(f"{rig.address}/api/v1/clusters/{path}")
    word = b64encode(f"{user}:a password".encode()).decode()
    request.add_header("Authorization", f"Basic {word}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_fermilabs_client(gateway, condor, unix_users, place, notebook):
    rig, host = gateway
    alice, python = unix_users[0], environment("fermilab")
    environ = {
        "JUPYTERHUB_API_TOKEN": "hubs-token",
        "PATH": f"{condor.bin}:/usr/bin:/bin",
        "CONDOR_CONFIG": str(condor.config),
    }
    with fermilab(condor, python, place):
        given = {"address": f"http://{host}:80", "host": host}
        session = notebook(alice, python, FERMILAB, place, environ, **given)
        out = session.said("READY")
        assert out["sum"] == 328350
        assert [name.rpartition("_")[2] for name in out["names"]] == ["0", "1"]
        assert len(condor.living()) == 2
        assert "are brought by its users" in out["scale"][0]
        wait_until(
            lambda: (ask(rig, alice, f"{out['name']}/live")["report"] or {}).get("workers") == 2,
            "the server sees workers that it has not started",
        )
        live = ask(rig, alice, f"{out['name']}/live")
        assert live["report"]["threads"] == 2
        assert live["report"]["clients"] == 1
        assert live["report"]["target"] is None
        texts = [event["text"] for event in ask(rig, alice, f"{out['name']}/events")["events"]]
        assert any(text.startswith("Asked for 2 workers") for text in texts), texts
        assert ask(rig, alice, out["name"])["options"]["image"].endswith(":0.7.22-py3.10")
        session.go_on()
        out = session.said("DONE")
        assert out["sum"] == 328450
        assert "are brought by its users" in out["adapt"][0]
        wait_until(lambda: not condor.living(), "no job is left")
    assert session.process.wait(30) == 0


def test_ncsas_client(gateway, condor, unix_users, place, notebook):
    rig, host = gateway
    alice, python = unix_users[0], environment("ncsa")
    container = place / "PublicHealth.sif"
    container.write_bytes(b"")
    container.chmod(0o644)
    stage = place / "stage"
    stage.mkdir()
    stage.chmod(0o777)
    environ = {
        "DASK_GATEWAY_PASSWORD": "a password",
        "CONDOR_BIN_DIR": str(condor.bin),
        "CONDOR_CONFIG": str(condor.config),
        "HTCDASK_STAGEDIR": str(stage),
    }
    with containers(condor, python, place):
        given = {"address": f"http://{host}:8786", "host": host, "container": str(container)}
        session = notebook(alice, python, NCSA, place, environ, **given)
        out = session.said("READY")
        assert out["sum"] == 328350
        assert len(condor.living()) == 2
        assert {job["Owner"] for job in condor.living()} == {alice}
        wait_until(
            lambda: (ask(rig, alice, f"{out['name']}/live")["report"] or {}).get("workers") == 2,
            "the server sees workers that it has not started",
        )
        session.go_on()
        session.said("DONE")
        wait_until(lambda: not condor.living(), "no job is left")
    assert session.process.wait(30) == 0
