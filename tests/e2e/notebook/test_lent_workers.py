"""Workers that a notebook submits: everything that other clusters do, and what befalls notebooks."""

import contextlib
import json
import signal
import time
import urllib.request
from base64 import b64encode

import aiohttp
import dask
import pytest
from dask_gateway import BasicAuth, Gateway
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewayServerError

from penstock.client import HTCGateway
from rigs.facility import free_ports
from rigs.gateway import wait_until
from rigs.lending import settled


def events(gateway, cluster: str, kind: str) -> list[str]:
    return [event["text"] for event in gateway.events(cluster) if event["kind"] == kind]


def serving(client) -> set[str]:
    return {one["name"] for one in client.scheduler_info(n_workers=-1)["workers"].values()}


def test_it_scales_adapts_replaces_and_leaves_nothing(lending):
    with lending.gateway() as gateway:
        cluster = gateway.new_cluster(worker_cores=2)
        with cluster.get_client() as client:
            cluster.scale(3)
            client.wait_for_workers(3, timeout=120)
            assert client.submit(sum, [1, 2, 3]).result(timeout=60) == 6
            threads = [
                w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()
            ]
            assert threads == [2, 2, 2]
            before = serving(client)
            victim = next(p for p in lending.workers(cluster.name) if "--child" in p.cmdline())
            victim.kill()
            wait_until(lambda: serving(client) - before, "another worker serves", 120)
            assert "replaced" in " ".join(events(gateway, cluster.name, "worker-exit"))
            client.wait_for_workers(3, timeout=60)
            kept = client.scatter(list(range(20)))
            cluster.scale(1)
            wait_until(lambda: len(serving(client)) == 1, "one worker is left")
            assert client.gather(kept) == list(range(20))
            [left] = serving(client)
            assert "Start worker" in gateway.logs(cluster.name, left)
            cluster.adapt(minimum=0, maximum=2)
            futures = client.map(lambda i: time.sleep(0.3) or i, range(12), pure=False)
            assert sum(client.gather(futures)) == 66
            del futures, kept
            wait_until(lambda: not serving(client), "idle workers leave", 120)
        name, helper = cluster.name, cluster.helper.pid
        cluster.scale(2)
        wait_until(lambda: lending.workers(name), "workers come")
        cluster.shutdown()
        wait_until(lambda: not lending.workers(name), "no job is left")
        wait_until(lambda: gateway.get_cluster(name).status is ClusterStatus.STOPPED, "it stopped")
        wait_until(lambda: settled(helper), "its helper ended")


def test_a_killed_kernel_leaves_nothing(lending):
    with lending.gateway() as gateway, lending.kernel(20) as kernel:
        kernel.kill()
        name = kernel.cluster
        wait_until(lambda: settled(kernel.helper), "its helper ended", 90)
        wait_until(lambda: gateway.get_cluster(name).status is ClusterStatus.STOPPED, "it stopped")
        assert lending.workers(name) == []
        assert "notebook ended" in events(gateway, name, "stopping")[0]


def test_a_machine_that_is_gone_leaves_nothing_either(lending):
    with lending.gateway() as gateway, lending.kernel(3) as kernel:
        name = kernel.cluster
        wait_until(lambda: len(lending.workers(name)) >= 3, "workers come", 90)
        kernel.kill(kernel.helper)
        wait_until(lambda: gateway.get_cluster(name).status is ClusterStatus.STOPPED, "stopped", 90)
        assert "has been away for 4 s" in events(gateway, name, "stopping")[0]
        wait_until(lambda: lending.workers(name) == [], "workers end with their scheduler", 90)


def test_an_interpreter_that_just_ends_leaves_nothing(lending):
    with lending.gateway() as gateway, lending.kernel(2) as kernel:
        kernel.process.stdin.write("\n")
        kernel.process.stdin.flush()
        assert kernel.process.wait(60) == 0
        wait_until(lambda: settled(kernel.helper), "its helper ended", 90)
        name = kernel.cluster
        wait_until(lambda: gateway.get_cluster(name).status is ClusterStatus.STOPPED, "it stopped")
        assert lending.workers(name) == []
        assert "stopped by" in events(gateway, name, "stopping")[0]


def test_workers_outlive_a_notebook_that_wants_it_and_a_server(lending, capfd):
    with lending.gateway() as gateway:
        cluster = gateway.new_cluster(shutdown_on_close=False)
        name = cluster.name
        cluster.scale(2)
        with cluster.get_client() as client:
            client.wait_for_workers(2, timeout=120)
            first = serving(client)
        # The server dies and comes back: the notebook finds it again, and nothing is replaced.
        lending.rig.kill(signal.SIGKILL)
        lending.rig.start()
        cluster.scale(3)
        with cluster.get_client() as client:
            client.wait_for_workers(3, timeout=120)
            assert first < serving(client)
        # The notebook leaves; longer than the grace nothing happens, and then there is another.
        cluster.close()
        wait_until(lambda: settled_(cluster), "its helper ended")
        plain = Gateway(lending.rig.address, auth=BasicAuth(lending.rig.user, lending.rig.password))
        with plain:
            plain.scale_cluster(name, 4)
        wait_until(lambda: events(gateway, name, "unavailable"), "the user is told")
        assert "HTCGateway().connect" in events(gateway, name, "unavailable")[0]
        time.sleep(5)
        again = gateway.connect(name)
        with again.get_client() as client:
            client.wait_for_workers(4, timeout=120)
            assert first < serving(client)
            # A second notebook takes over, tells the first, and gives back.
            with lending.kernel(5, connect=name) as kernel:
                client.wait_for_workers(5, timeout=120)
                told = f"process {kernel.process.pid} on "
                wait_until(lambda: told in capfd.readouterr().out, "the first is told")
                kernel.kill()
                wait_until(lambda: settled(kernel.helper), "the second's helper ended")
            wait_until(lambda: "from this notebook again" in capfd.readouterr().out, "told")
            again.scale(1)
            wait_until(lambda: len(serving(client)) == 1, "one worker is left")
        again.shutdown()
        wait_until(lambda: not lending.workers(name), "no job is left")
        assert not events(gateway, name, "lost")
        assert not events(gateway, name, "worker-exit")


def settled_(cluster) -> bool:
    return cluster.helper is None


def test_where_the_gateway_starts_the_workers_it_is_an_ordinary_client(lending):
    with lending.gateway() as gateway, gateway.new_cluster(profile="own") as cluster:
        assert cluster.helper is None
        cluster.scale(1)
        with cluster.get_client() as client:
            client.wait_for_workers(1, timeout=120)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"type": "local", "directory": "not/absolute"}, r"directory: .*absolute path"),
        ({"type": "htcondor", "bin": "/nowhere"}, r"there is no condor_q in /nowhere"),
    ],
)
def test_a_backend_that_cannot_be_fails_the_new_cluster(lending, wrong, told):
    with (
        lending.gateway() as gateway,
        dask.config.set({"gateway.notebook.backend": wrong}),
        pytest.raises(GatewayClusterError, match=told),
    ):
        gateway.new_cluster()
    with lending.gateway() as gateway:
        assert gateway.list_clusters() == []


def test_a_wrong_login_and_a_gateway_that_is_not_there_are_told(lending):
    wrong = BasicAuth(lending.rig.user, "wrong")
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    for address, told in (
        (lending.rig.address, r"does not accept your login \(BasicAuth\)"),
        (nowhere, "cannot be reached .*refused.*does it run"),
    ):
        with HTCGateway(address, auth=wrong) as gateway:
            for call in (gateway.new_cluster, gateway.list_clusters):
                with pytest.raises(GatewayServerError, match=f"The gateway {address} {told}"):
                    call()


def test_an_image_that_means_nothing_here_is_told(lending):
    with lending.gateway() as gateway:
        with pytest.raises(ValueError, match=r"image' is no option.*gateway\.htcondor\.image-base"):
            gateway.new_cluster(image="coffeateam/coffea-base-almalinux8:0.7.22-py3.10")
        assert gateway.list_clusters() == []


def test_nobody_else_can_be_a_clusters_notebook(lending):
    with lending.gateway() as gateway:
        name, other = gateway.submit(), gateway.submit()
        try:
            words = b64encode(f"{lending.rig.user}:{lending.rig.password}".encode()).decode()
            ticket = ask(lending, other, {"Authorization": f"Basic {words}"})
            wait_until(lambda: len(gateway.list_clusters(status="running")) == 2, "both run")
            [config] = (lending.rig.state / "jobs").glob(f"*{name}-0/0/penstock.json")
            token = json.loads(config.read_text())["token"]
            for headers in (
                {},
                {"Authorization": f"token {token}"},
                {"Authorization": f"token {ticket}"},
            ):
                with pytest.raises(urllib.error.HTTPError, match=r"401|404"):
                    ask(lending, name, headers, "GET", "channel")
        finally:
            gateway.stop_cluster(name)
            gateway.stop_cluster(other)


async def test_a_hostile_notebook_gains_nothing(lending):
    """It holds a ticket for its own cluster, and says what it likes."""
    with lending.gateway() as gateway:
        mine, other = gateway.submit(), gateway.submit()
        try:
            wait_until(lambda: len(gateway.list_clusters(status="running")) == 2, "both run")
            words = b64encode(f"{lending.rig.user}:{lending.rig.password}".encode()).decode()
            ticket = ask(lending, mine, {"Authorization": f"Basic {words}"})
            url = f"{lending.rig.address}/api/v1/clusters/{mine}/workers/channel"
            headers = {"Authorization": f"token {ticket}"}
            hello = {"op": "hello", "protocol": 1, "place": "x\n", "who": "y" * 9999}
            async with aiohttp.ClientSession(headers=headers) as session:
                for first in (
                    "{",
                    "[]",
                    '{"op": "done"}',
                    "{" * 100_000,
                    json.dumps({**hello, "protocol": 2}),
                ):
                    async with session.ws_connect(url) as socket:
                        await socket.send_str(first)
                        closed = await socket.receive(timeout=30)
                        assert closed.data == aiohttp.WSCloseCode.POLICY_VIOLATION
                async with session.ws_connect(url) as socket:
                    await socket.send_json(hello)
                    job = [0, 0, "1", "running", None, None, "", "", None, None, None, None]
                    rows = [
                        job,
                        [7, 3, "$(id)", "held", None, None, "\x1b[2J", "", 1e300, -1e300, 0, 0],
                    ]
                    gateway.scale_cluster(mine, 1)
                    for _ in range(12):
                        said = json.loads((await socket.receive(timeout=30)).data)
                        answer = {
                            "id": said.get("id", 5),
                            "op": "done",
                            "jobs": rows,
                            "complete": True,
                        }
                        if said["op"] == "submit":
                            assert "token" not in json.dumps({**said, "files": {}})
                            answer = {
                                "id": said["id"],
                                "op": "failed",
                                "kind": "rejected",
                                "text": "\x1b[2Jno",
                            }
                        await socket.send_json(answer)
                        await socket.send_json({"op": "done", "id": {"a": 1}})
                        await socket.send_json({"op": "changed", "cluster": other})
                    wait_until(lambda: events(gateway, mine, "rejected"), "its words are told")
                    assert "\x1b" not in events(gateway, mine, "rejected")[0]
                    flood = json.dumps({"op": "changed", "x": "y" * 4_000_000})
                    with contextlib.suppress(ConnectionError, RuntimeError):
                        for _ in range(30):
                            await socket.send_str(flood)
            assert {c.name for c in gateway.list_clusters(status="running")} >= {other}
            assert "forged" not in lending.rig.log.read_text()
        finally:
            gateway.stop_cluster(mine)
            gateway.stop_cluster(other)


def ask(lending, cluster, headers, method="POST", what="ticket"):
    url = f"{lending.rig.address}/api/v1/clusters/{cluster}/workers/{what}"
    request = urllib.request.Request(url, data=b"{}" if method == "POST" else None, method=method)
    for name, value in {**headers, "Content-Type": "application/json"}.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["ticket"]


def test_a_notebook_may_submit_to_slurm(lending, slurm, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where a notebook keeps what it submitted
    section = {
        "type": "slurm",
        "config": str(slurm.config),
        "scratch": str(slurm.directory / "scratch"),
        "period": "500 ms",
        "jobs": {"time": "10 min"},
    }
    with dask.config.set({"gateway.notebook.backend": section}), lending.gateway() as gateway:
        cluster = gateway.new_cluster()
        cluster.scale(2)
        with cluster.get_client() as client:
            client.wait_for_workers(2, timeout=120)
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert len(slurm.squeue("JobID", states="R")) == 2
        cluster.shutdown()
        wait_until(lambda: not slurm.squeue("JobID", states="PD,R,CF,CG,S"), "no job is left")
