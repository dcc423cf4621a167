"""Real agents with real schedulers and workers, in two environments."""

from __future__ import annotations

import pytest

from rigs.agents import Rig, go_on, line, until

both = pytest.mark.parametrize("python", ["newest", "old"], indirect=True)

NOTHING = {"processing": 0, "queued": 0, "unrunnable": 0, "waiting": 0, "memory": 0, "erred": 0}


@both
async def test_a_cluster_lives_moves_its_data_and_ends(rig: Rig) -> None:
    server = rig.server
    scheduler = await rig.scheduler()
    hello = server.said("hello")[0]
    assert hello["protocol"] == 1
    assert str(hello["scheduler_address"]).startswith("tls://127.0.0.1:")
    assert str(hello["dashboard_address"]).startswith("http://127.0.0.1:")
    assert hello["workers"] == []
    versions = hello["versions"]
    assert isinstance(versions, dict)
    assert {"python", "dask", "distributed", "numpy", "pandas", "msgpack", "cloudpickle"} <= set(
        versions
    )
    await until(lambda: server.said("report"), "a report")
    assert server.last["tasks"] == NOTHING
    assert server.last["target"] is None

    first = await rig.worker(1, 0, nanny=True, nthreads=2)
    second = await rig.worker(1, 1)
    assert server.last["workers"] == 2
    assert server.last["threads"] == 3
    await until(lambda: server.last["memory"] != 0, "heartbeats")
    assert server.last["memory_limit"] == 2 * 2**29

    script = (
        "future = client.submit(lambda: list(range(1000)), workers='w1-0', pure=False)\n"
        "future.result(); print('ready'); input()\n"
        "print(len(future.result()))\n"
    )
    async with rig.client(script) as client:
        assert await line(client) == "ready"
        await until(lambda: server.last["tasks"] == {**NOTHING, "memory": 1}, "the task")
        assert server.last["clients"] == 1
        request = {"op": "retire", "id": 7, "count": 2, "names": ["w1-0", "w9-9"]}
        await server.send(request)
        await server.send(request)
        await until(lambda: server.said("retired"), "the retirement")
        answer = {"op": "retired", "id": 7, "names": ["w1-0", "w9-9"], "error": None}
        assert server.said("retired")[0] == answer
        assert await first.wait() == 0
        await until(lambda: server.workers == {"w1-1"}, "the removal")
        await server.send(request)
        await until(lambda: len(server.said("retired")) >= 2, "the answer again")
        assert server.said("retired")[-1] == answer
        await go_on(client)
        assert await line(client) == "1000"
    await until(lambda: server.last["clients"] == 0, "the client to be gone")

    await server.send({"op": "close", "reason": "enough"})
    assert await scheduler.wait() == 0
    assert await second.wait() == 0
    assert server.said("closing") == [{"op": "closing", "reason": "enough"}]
    assert server.exits == []


@both
async def test_retiring_all_workers_goes_even_with_data(rig: Rig) -> None:
    await rig.scheduler()
    workers = [await rig.worker(1, 0), await rig.worker(2, 5, nanny=True)]
    async with rig.client("f = client.submit(len, 'abc'); print(f.result()); input()") as client:
        assert await line(client) == "3"
        # Two requests at once never choose the same worker.
        await rig.server.send({"op": "retire", "id": 1, "count": 1, "names": None})
        await rig.server.send({"op": "retire", "id": 2, "count": 5, "names": None})
        await until(lambda: len(rig.server.said("retired")) == 2, "both answers")
        names = [name for answer in rig.server.said("retired") for name in answer["names"]]  # type: ignore[attr-defined]
        assert sorted(names) == ["w1-0", "w2-5"]
        for worker in workers:
            assert await worker.wait() == 0
    assert rig.server.exits == []


@both
async def test_the_target_follows_the_work(rig: Rig) -> None:
    server = rig.server
    server.adapt = {"active": True, "minimum": 0, "maximum": 3}
    await rig.scheduler()
    await until(lambda: server.said("report") and server.last["target"] == 0, "a target of 0")
    script = (
        "import time\n"
        "futures = client.map(lambda i: time.sleep(0.1), range(40), pure=False)\n"
        "print('sent'); client.gather(futures); del futures; print('done'); input()\n"
    )
    async with rig.client(script) as client:
        assert await line(client) == "sent"
        await until(lambda: server.last["target"] in (1, 2, 3), "a target without any worker")
        await until(lambda: server.last["idle"] == 0.0, "not to be idle")
        await rig.worker(1, 0, nthreads=2)
        await server.send({"op": "adapt", "active": True, "minimum": 2, "maximum": 5})
        await until(lambda: server.last["target"] in (2, 3, 4, 5), "the new minimum")
        assert await line(client) == "done"
        await server.send({"op": "adapt", "active": True, "minimum": 0, "maximum": 5})
        await until(lambda: server.last["target"] == 0, "the target to fall")
        await until(lambda: server.last["idle"] > 1.0, "idle seconds")  # type: ignore[operator]
    await server.send({"op": "adapt", "active": False})
    await until(lambda: server.last["target"] is None, "no target")


async def test_the_agent_outlives_its_server_and_nonsense(rig: Rig) -> None:
    server = rig.server
    await rig.scheduler()
    worker = await rig.worker(3, 4)
    for nonsense in (
        "{",
        "[]",
        "null",
        '{"op": 7}',
        '{"op": "later", "x": []}',
        '{"op": "retire"}',
    ):
        await server.send(nonsense)
    await server.send({"op": "retire", "id": 1, "count": -1, "names": None})
    await server.send({"op": "adapt", "active": True, "minimum": "x"})
    await server.send({"op": "welcome", "period": "soon", "adapt": []})
    await server.stop()
    server.heard.clear()
    await server.start()
    await until(lambda: server.said("hello"), "the agent to come back")
    assert server.said("hello")[0]["workers"] == ["w3-4"]
    await server.send({"op": "close", "reason": "x"})
    assert await worker.wait() == 0


@both
async def test_a_client_may_shut_the_scheduler_down(rig: Rig) -> None:
    scheduler = await rig.scheduler()
    worker = await rig.worker(nanny=True)
    async with rig.client("client.shutdown()") as client:
        await client.wait()
    assert await scheduler.wait() == 0
    assert await worker.wait() == 0
    assert "by a client" in str(rig.server.said("closing")[0]["reason"])
    assert rig.server.exits == []


@pytest.mark.parametrize("status", [0, 404, 410])
async def test_a_scheduler_without_a_server_gives_up(rig: Rig, status: int) -> None:
    if status == 0:
        scheduler = await rig.scheduler(give_up=2)
        await rig.server.stop()
    else:
        rig.server.answer = status
        scheduler = await rig.start(rig.config("scheduler", 0, give_up=2))
    assert await scheduler.wait() == 0
    assert "closing: " in scheduler.log
