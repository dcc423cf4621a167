"""Fermilab's and NCSA's snippets, as they stand in the user's guide, on a real HTCondor pool.

The notebook is a process of a Unix user, in an environment that has the client alone; the gateway may
not submit for this user.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.markdown import ROOT, blocks
from rigs.apptainer_install import apptainer, make_image, make_sif
from rigs.certificates import write_proxy
from rigs.environments import environment
from rigs.facility import running_facility
from rigs.gateway import wait_until

GUIDE = [block.text for block in blocks(ROOT / "docs/user/notebook-workers.md", "py")]
IMAGE = "registry.hub.docker.com/coffeateam/coffea-base-almalinux8:0.7.22-py3.10"

PROFILES = """
[backends.notebook]
type = "notebook"
period = "500 ms"
grace = "5 s"

[profiles.fermilab.scheduler]
python = "{python}"

[profiles.fermilab.workers.default]
backend = "notebook"
python = "python3"
nanny = false
cores = 2
min_cores = 1
max_cores = 4
memory = "4 GiB"
min_memory = "1 GiB"
max_memory = "8 GiB"

[profiles.ncsa.scheduler]
python = "{python}"

[profiles.ncsa.workers.default]
backend = "notebook"
python = "python3"
nanny = false
max_cores = 8
max_memory = "64 GiB"

[profiles.ncsa.options]
image = {{ type = "string", target = "env.SCHEDULER_IMAGE" }}
container_image = {{ type = "string", target = "workers.extras.container_image" }}
"""

LOOK = """
def look():
    import os
    path = os.environ.get("X509_USER_PROXY", "")
    return {
        "user": os.getuid(),
        "proxy": path and [open(path).read(), os.stat(path).st_mode & 0o777],
        "image": os.environ.get("APPTAINER_CONTAINER"),
        "name": os.environ.get("APPTAINER_NAME"),
        "root": sorted(os.listdir("/")),
        "here": os.getcwd(),
    }
import json
client.wait_for_workers(NUMBER, timeout=120)
print("LOOK", json.dumps(sorted(client.run(look).values(), key=str)), flush=True)
print("THREADS", [w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()])
print("SUM", client.submit(sum, [1, 2, 3]).result(timeout=60), flush=True)
print("NAME", cluster.name, flush=True)
"""


class Home:
    """A user's home, with what the site and the user have configured there."""

    def __init__(self, facility, condor, directory: Path) -> None:
        self.facility, self.condor, self.directory = facility, condor, directory
        self.user = facility.alice
        self.source = directory / "packages"
        shutil.copytree(ROOT / "src", self.source)
        self.cells = directory / "notebook_cells.py"
        self.cells.write_bytes((ROOT / "tests/rigs/notebook_cells.py").read_bytes())
        self.images = directory / "cvmfs"
        make_image(self.images / IMAGE)
        self.sif = directory / "PublicHealth.sif"
        make_sif(self.sif, self.images / IMAGE)
        self.proxy = directory / "x509up"
        write_proxy(self.proxy, hours=12)
        account = pwd.getpwnam(self.user)
        for root, _, files in os.walk(directory):
            for name in (".", *files):
                os.lchown(os.path.join(root, name), account.pw_uid, account.pw_gid)
        self.configure("fermilab")

    def configure(self, profile: str, **more: object) -> None:
        basic = {"username": self.user, "password": self.facility.passwords[self.user]}
        htcondor = {
            "bin": str(self.condor.bin),
            "period": "500 ms",
            "grace": "5 s",
            "apptainer": str(apptainer()),
            "bind": ["/usr", str(environment("new").parents[2]), "/nowhere"],
            "python": str(environment("new")),
            "jobs": {"attributes": {"isDaskJob": True}, "requirements": "Memory > 0"},
            **more,
        }
        section = {
            "address": self.facility.addresses[0],
            "auth": {"type": "basic", "kwargs": basic},
            "cluster": {"options": {"profile": profile}},
            "htcondor": htcondor,
        }
        (self.directory / "gateway.yaml").write_text(json.dumps({"gateway": section}))

    def start(self, *cells: str, **environ: str) -> subprocess.Popen[str]:
        account = pwd.getpwnam(self.user)
        return subprocess.Popen(
            [environment("notebook"), str(self.cells), json.dumps(cells)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            start_new_session=True,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.directory),
                "LOGNAME": self.user,
                "CONDOR_CONFIG": str(self.condor.config),
                "DASK_CONFIG": str(self.directory),
                "PYTHONPATH": str(self.source),
                "X509_USER_PROXY": str(self.proxy),
                **environ,
            },
        )

    def run(self, *cells: str, **environ: str) -> str:
        process = self.start(*cells, **environ)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        return output

    def jobs(self, cluster: str) -> list[dict]:
        return self.condor.queue(
            "isDaskJob", "RequestCpus", "RequestMemory", "Cmd",
            constraint=f'JobBatchName == "dask-worker-{cluster}" && JobStatus < 3',
        )  # fmt: skip


@pytest.fixture(scope="module")
def home(unix_users, condor_pool, tmp_path_factory):
    with running_facility(unix_users, PROFILES) as facility:
        directory = facility.rig.directory / "home"
        directory.mkdir()
        yield Home(facility, condor_pool, directory)


def said(output: str, word: str) -> str:
    found = re.findall(rf"^{word} (.*)$", output, re.MULTILINE)
    assert found, output
    return found[-1]


def test_fermilabs_notebook(home):
    home.configure("fermilab", image_base=str(home.images))
    start, chosen, listing = GUIDE[:3]
    before, shutdown = start.split("# When computations are finished")
    seen = LOOK.replace("NUMBER", "5")
    output = home.run(before, seen, "# When computations are finished" + shutdown)
    looks = json.loads(said(output, "LOOK"))
    uid = pwd.getpwnam(home.user).pw_uid
    assert [look["user"] for look in looks] == [uid] * 5
    assert {json.dumps(look["proxy"]) for look in looks} == {
        json.dumps([home.proxy.read_text(), 0o600])
    }
    assert [look["image"] for look in looks] == [None] * 5
    assert said(output, "SUM") == "6"
    assert home.jobs(said(output, "NAME")) == []

    wait = "client = cluster.get_client(); cluster.scale(1)" + LOOK.replace("NUMBER", "1")
    queue = "print('QUEUE', cluster.name, flush=True); input(); client.close()"
    process = home.start("from htcdaskgateway import HTCGateway; gateway = HTCGateway()",
                         chosen, wait, queue, listing, "print('LEFT', gateway.list_clusters())")  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("QUEUE"):
            break
    text = "".join(lines)
    assert lines[-1].startswith("QUEUE"), text
    [job] = home.jobs(said(text, "QUEUE"))
    assert (job["Owner"], job["isDaskJob"], job["RequestCpus"]) == (home.user, True, 2)
    assert job["RequestMemory"] == 4096
    [look] = json.loads(said(text, "LOOK"))
    assert look["image"] == str(home.images / IMAGE)
    assert "cvmfs" not in look["root"]
    assert look["here"].startswith("/srv")
    assert look["proxy"] == [home.proxy.read_text(), 0o600]
    assert said(text, "THREADS") == "[2]"
    rest, _ = process.communicate("\n", timeout=120)
    assert process.returncode == 0, rest
    assert said(rest, "LEFT") == "[]"
    wait_until(lambda: home.jobs(said(text, "QUEUE")) == [], "no job is left")


def test_an_image_that_is_not_there_is_told_before_anything_is_submitted(home):
    home.configure("fermilab", image_base=str(home.images))
    wrong = """
from htcdaskgateway import HTCGateway
gateway = HTCGateway()
for options in ({"image": "coffeateam/coffea-base-almalinux8:0.7.22-py3.11"},
                {"container_image": "HOME/PublicHelth.sif"}):
    try:
        gateway.new_cluster(**options)
    except ValueError as error:
        print("TOLD", error)
print("CLUSTERS", gateway.list_clusters())
""".replace("HOME", str(home.directory))
    output = home.run(wrong)
    assert said(output, "CLUSTERS") == "[]"
    assert f"did you mean {home.images / IMAGE}?" in output
    assert f"did you mean {home.sif}?" in output


def test_an_expired_proxy_submits_nothing_until_it_is_renewed(home):
    home.configure("fermilab")
    write_proxy(home.proxy, hours=-1)
    os.chown(home.proxy, pwd.getpwnam(home.user).pw_uid, -1)
    cell = """
from htcdaskgateway import HTCGateway
import time
gateway = HTCGateway()
cluster = gateway.new_cluster()
cluster.scale(1)
def told():
    return [e["text"] for e in gateway.events(cluster.name) if "proxy" in e["text"]]
while not told():
    time.sleep(0.1)
print("TOLD", told()[0], flush=True)
input()
cluster.get_client().wait_for_workers(1, timeout=120)
cluster.shutdown()
print("DONE", flush=True)
"""
    process = home.start(cell)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("TOLD"):
            break
    assert "has expired; renew it" in said(text, "TOLD")
    write_proxy(home.proxy, hours=12)
    os.chown(home.proxy, pwd.getpwnam(home.user).pw_uid, -1)
    output, _ = process.communicate("\n", timeout=200)
    assert "DONE" in output, output
    # Whoever looks at the notebook alone has read it there, too, and that it is over.
    told = (f"no workers at the moment: the X.509 proxy {home.proxy} has exp", "gets workers again")
    assert [(text + output).count(words) for words in told] == [1, 1], text + output


def test_ncsas_notebook_and_a_killed_kernel(home):
    home.configure("ncsa")
    snippet = GUIDE[3].replace(
        "https://dask.software-dev.ncsa.illinois.edu", home.facility.addresses[0]
    )
    snippet = snippet.replace("8786", home.facility.addresses[0].rpartition(":")[2])
    snippet = snippet.replace("/u/bengal1/condor/PublicHealth.sif", str(home.sif))
    (home.directory / ".env").write_text(
        f"DASK_GATEWAY_PASSWORD='{home.facility.passwords[home.user]}'\n"
    )
    os.chown(home.directory / ".env", pwd.getpwnam(home.user).pw_uid, -1)
    more = "cluster.scale(20); print('PID', cluster.helper.pid, flush=True); input()"
    process = home.start(snippet, LOOK.replace("NUMBER", "2"), more)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("PID"):
            break
    name = said(text, "NAME")
    looks = json.loads(said(text, "LOOK"))
    assert [look["name"] for look in looks] == [home.sif.name] * 2
    assert said(text, "THREADS") == "[4, 4]"
    wait_until(lambda: len(home.jobs(name)) == 20, "they are in the queue")
    assert {job["RequestMemory"] for job in home.jobs(name)} == {32000000000 // 2**20 + 1}
    process.kill()
    process.wait(30)
    process.stdin.close()
    process.stdout.close()
    wait_until(lambda: home.jobs(name) == [], "no job is left", 90)
    pid = said(text, "PID")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its helper ended", 90)
