"""A user who has a cluster, and turns everything that it gives them against all others.

Bob's "agent" is this test: it reads the token in Bob's job's directory, as Bob, and says whatever
it likes. Alice computes all the while, on the same gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import ssl

import aiohttp
import psutil
import pytest
from aiohttp import WSMsgType
from dask_gateway.client import ClusterStatus

from penstock.model.wire import MAX_FRAME
from rigs.facility import listening_as
from rigs.gateway import wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore::distributed.versions.VersionMismatchWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def victim(facility):
    """Alice's cluster with a worker; what it computes must be right to the end."""
    with facility.client(facility.alice) as client, client.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as dask_client:
            dask_client.wait_for_workers(1, timeout=120)
            yield cluster, dask_client


@pytest.fixture(autouse=True)
def unharmed(facility, victim):
    """After each attack: Alice computes, the server is no larger, its log has no forged line."""
    cluster, dask_client = victim
    before = facility.server.memory_info().rss
    running = dask_client.submit(lambda: sum(range(1000)), pure=False)
    yield
    assert running.result(timeout=60) == 499500
    assert dask_client.submit(lambda: 6 * 7, pure=False).result(timeout=60) == 42
    with facility.client(facility.alice) as client:
        report = client.get_cluster(cluster.name)
        assert report.status is ClusterStatus.RUNNING
    assert facility.server.memory_info().rss - before < 150 * 2**20
    for line in facility.logs().splitlines():
        assert line.isprintable(), line
        assert not line.startswith("FORGED")
        assert "unexpected error" not in line, line
        assert "Traceback" not in line, line


@pytest.fixture(scope="module")
def hostile(facility, victim):
    """Bob's cluster, whose real agent is out of the way, and its secrets."""
    with facility.client(facility.bob) as client:
        name = client.submit(profile="production")
        client.connect(name).close()
        secrets = facility.secrets(name, facility.bob)
        with agent_held(name):
            yield Hostile(facility, client, name, secrets)
        client.stop_cluster(name)


@contextlib.contextmanager
def agent_held(name):
    """Bob's scheduler listens, but its own agent says nothing meanwhile."""
    tag = f"{name}-0"
    [process] = [p for p in job_processes(tag) if "--child" in p.cmdline()]
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def job_processes(tag):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get("PENSTOCK_TAG", "").endswith(tag)
            if ours and any("penstock_agent.py" in part for part in process.cmdline()):
                found.append(process)
    return found


class Hostile:
    def __init__(self, facility, client, name, secrets):
        self.facility = facility
        self.client = client
        self.name = name
        self.token = secrets["token"]
        self.report = client.get_cluster(name)

    @property
    def headers(self):
        return {"Authorization": f"token {self.token}"}

    def path(self, what, name=None):
        return f"{self.facility.addresses[0]}/api/v1/clusters/{name or self.name}/{what}"

    @contextlib.asynccontextmanager
    async def channel(self, **hello):
        """A channel that said hello; ``hello`` changes it."""
        async with aiohttp.ClientSession() as session, await self.open(session) as socket:
            await socket.send_str(json.dumps({**self.hello(), **hello}))
            yield socket

    async def open(self, session):
        """A channel; the server may say that we open too many, then later."""
        end = asyncio.get_running_loop().time() + 120
        while True:
            try:
                return await session.ws_connect(self.path("channel"), headers=self.headers)
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 409 or asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(0.2)

    def hello(self):
        return {
            "op": "hello",
            "protocol": 1,
            "scheduler_address": f"tls://127.0.0.1:{self.port}",
            "dashboard_address": None,
            "versions": {},
            "workers": [],
        }

    @functools.cached_property
    def port(self):
        """Where Bob's real scheduler listens."""
        text = self.facility.ask(self.facility.bob, "GET", f"/api/v1/clusters/{self.name}/events")[
            1
        ]
        [event] = [e for e in json.loads(text)["events"] if e["kind"] == "running"]
        return int(event["text"].rstrip(".").rpartition(":")[2])


async def closed(socket) -> str:
    """Read to the end; the reason that the server gave."""
    while True:
        message = await socket.receive(30)
        if message.type is WSMsgType.CLOSE:
            return message.extra or ""
        if message.type in (WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
            return ""


ELSEWHERE = [
    "tls://10.0.0.1:8786",
    "tls://169.254.169.254:80",
    "tls://[fe80::1]:80",
    "tls://localhost:{port}",
    "tls://gateway.example.org:443",
    "tls://127.0.0.1:{own}",
    "tls://127.0.0.2:{own}",
    "tls://127.0.0.1:{other}",
    "tls://0.0.0.0:{port}",
    "tls://127.0.0.1:{free}",
    "tls://2130706433:{port}",
    "tls://127.1:{port}",
    "http://127.0.0.1:{port}",
    "tls://127.0.0.1:{port}@10.0.0.1:1",
    "tls://127.0.0.1:{port}#@x",
    "unix:///run/docker.sock",
]


@pytest.mark.parametrize("address", ELSEWHERE)
@pytest.mark.parametrize("key", ["scheduler_address", "dashboard_address"])
async def test_addresses_of_others_are_not_announced(facility, hostile, address, key):
    own = int(facility.addresses[1].rpartition(":")[2])
    port = hostile.port
    with listening_as(facility.alice) as (other, service):
        text = address.format(port=port, own=own, other=other, free=1)
        if key == "dashboard_address":
            text = text.replace("tls:", "http:") if "http" not in text else "tls://127.0.0.1:1"
        async with hostile.channel(**{key: text}) as socket:
            reason = await closed(socket)
        assert "announced" in reason or "address" in reason, reason
        assert not service.stdout.read()  # nobody called there
    assert f"daskgateway-{hostile.name}" not in facility.logs()


async def test_a_second_scheduler_after_the_first_is_a_matter_of_its_owner(facility, hostile):
    """Another listener of Bob's is Bob's to announce; it gets his cluster's traffic, nobody's else."""
    host, port = facility.addresses[0].removeprefix("http://").split(":")
    with listening_as(facility.bob) as (second, service):
        async with hostile.channel(scheduler_address=f"tls://127.0.0.1:{second}") as socket:
            assert (await socket.receive(30)).type is WSMsgType.TEXT

            def called():
                with contextlib.suppress(OSError):
                    speak(host, int(port), f"daskgateway-{hostile.name}")
                return service.stdout.read()

            await asyncio.to_thread(wait_until, called, "the door leads there")
            report = await asyncio.to_thread(hostile.client.get_cluster, hostile.name)
            assert report.status is ClusterStatus.RUNNING
    async with hostile.channel() as socket:
        assert (await socket.receive(30)).type is WSMsgType.TEXT


def speak(host, port, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), timeout=30) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


async def test_hellos_that_are_none(hostile):
    for changed in (
        {"op": "report"},
        {"protocol": 2},
        {"protocol": 10**300},
        {"workers": "w1-0"},
        {"workers": ["w1-0"] * 100_001},
        {"versions": {"dask": [["x"]]}},
    ):
        async with hostile.channel(**changed) as socket:
            assert await closed(socket)


FRAMES = {
    "not JSON": "{",
    "no object": "[1, 2]",
    "NaN": '{"op": "report", "workers": NaN}',
    "infinite": '{"op": "report", "cpu": 1e999}',
    "huge": '{"op": "report", "workers": 1' + "0" * 400 + "}",
    "huger": '{"op": "report", "workers": 1' + "0" * 9000 + "}",
    "negative": '{"op": "report", "workers": -1}',
    "deep": "[" * 500_000,
    "deep object": '{"op": "report", "tasks": ' + '{"a": ' * 900 + "1" + "}" * 901,
    "wrong types": '{"op": "report", "added": 7, "tasks": "x", "target": []}',
    "no op": '{"target": 3}',
    "a million names": json.dumps({"op": "report", "added": ["w1-1"] * 100_001}),
    "too large": json.dumps({"op": "report", "x": "x" * (MAX_FRAME + 1)}),
    "binary": b"\x00\x01",
}


@pytest.mark.parametrize("what", FRAMES)
async def test_frames_that_are_none_end_the_channel(hostile, what):
    async with hostile.channel() as socket:
        assert (await socket.receive(30)).type is WSMsgType.TEXT  # the welcome
        frame = FRAMES[what]
        await (socket.send_bytes if isinstance(frame, bytes) else socket.send_str)(frame)
        await closed(socket)
        assert socket.close_code in (1006, 1008, 1009)


async def test_unknown_words_are_ignored(hostile):
    async with hostile.channel() as socket:
        await socket.receive(30)
        await socket.send_str('{"op": "frobnicate", "deep": {"er": [1]}}')
        await socket.send_str('{"op": "retired", "id": 99, "names": ["w99-1", "w0-0", "x"]}')
        await socket.ping()
        await socket.send_str('{"op": "report", "workers": 3}')
        await asyncio.to_thread(
            wait_until, lambda: live(hostile)["report"]["workers"] == 3, "the report arrives"
        )


def live(hostile):
    text = hostile.facility.ask(
        hostile.facility.bob, "GET", f"/api/v1/clusters/{hostile.name}/live"
    )[1]
    return json.loads(text)


async def test_who_speaks_too_much_is_cut_off(hostile):
    async with hostile.channel() as socket:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            for _ in range(5000):
                await socket.send_str('{"op": "report"}')
        await closed(socket)
        assert socket.close_code in (1006, 1008)


async def test_a_token_is_for_its_own_cluster_only(hostile, victim):
    cluster, _ = victim
    async with aiohttp.ClientSession() as session:
        path = hostile.path("channel", cluster.name)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await session.ws_connect(path, headers=hostile.headers)
        report = {"job": "s0-0", "code": 137, "reason": "dead", "tail": ""}
        path = hostile.path("exits", cluster.name)
        async with session.post(path, json=report, headers=hostile.headers) as answer:
            assert answer.status == 404
        for what in ("events", "logs", "live", "scale"):  # no API of users
            async with session.get(hostile.path(what), headers=hostile.headers) as answer:
                assert answer.status in (401, 405)
        async with session.delete(hostile.path("").rstrip("/"), headers=hostile.headers) as answer:
            assert answer.status == 401


async def test_exit_reports_that_lie(facility, hostile):
    path = hostile.path("exits")
    async with aiohttp.ClientSession(headers=hostile.headers) as session:

        async def post(body, status):
            async with session.post(path, **body) as answer:
                assert answer.status == status, await answer.text()

        await post({"json": {"job": "w7-7", "code": 1, "reason": "FORGED"}}, 200)  # no such job
        await post({"json": {"job": "../../etc", "code": 1}}, 422)
        await post({"json": {"job": "s0-0", "code": 10**30}}, 422)
        await post({"json": {"job": "s0-0", "code": 1, "tail": "x" * 100_000}}, 422)
        await post({"data": b"{", "headers": {"Content-Type": "application/json"}}, 422)
        await post({"data": b"x"}, 422)

        async def endless():
            for _ in range(100):
                yield b"x" * 10_000

        with contextlib.suppress(aiohttp.ClientError):
            await post({"data": endless(), "headers": {"Content-Type": "application/json"}}, 422)


async def test_a_hundred_channels_at_once(facility, hostile):
    hello = hostile.hello()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one():
            try:
                socket = await session.ws_connect(hostile.path("channel"), headers=hostile.headers)
            except aiohttp.ClientError:
                return None
            await socket.send_str(json.dumps(hello))
            return socket

        first = await hostile.open(session)
        await first.send_str(json.dumps(hello))
        more = [s for s in await asyncio.gather(*(one() for _ in range(100))) if s]
        sockets = [first, *more]
        assert len(sockets) < 100
        welcomed = 0
        for socket in sockets:
            with contextlib.suppress(asyncio.TimeoutError):
                message = await socket.receive(10)
                welcomed += message.type is WSMsgType.TEXT
        assert welcomed
        open_ones = [s for s in sockets if not s.closed and await silent(s)]
        assert len(open_ones) <= 1  # the newest replaced all others
        await asyncio.gather(*(s.close() for s in sockets))


async def silent(socket) -> bool:
    """Whether the server leaves the socket open."""
    try:
        return (await socket.receive(1)).type is WSMsgType.TEXT
    except asyncio.TimeoutError:
        return True


def test_channels_that_say_nothing_end(facility, hostile):
    async def wordless():
        async with aiohttp.ClientSession() as session, await hostile.open(session) as socket:
            return await closed(socket)

    assert "no hello" in asyncio.run(wordless())


def test_half_open_connections_cost_the_server_little(facility):
    host, port = facility.addresses[0].removeprefix("http://").split(":")
    before = len(facility.server.net_connections())

    async def slow():
        streams = await asyncio.gather(
            *(asyncio.open_connection(host, int(port)) for _ in range(200))
        )
        for _, writer in streams:
            writer.write(b"POST /api/v1/clusters/ HTTP/1.1\r\nHost: x\r\nContent-Le")
        await asyncio.gather(*(writer.drain() for _, writer in streams))
        status = await asyncio.to_thread(facility.ask, facility.alice, "GET", "/api/v1/clusters/")
        assert status[0] == 200
        for _, writer in streams:
            writer.close()

    asyncio.run(slow())
    wait_until(lambda: len(facility.server.net_connections()) <= before + 5, "they are let go")


async def exaggerate(hostile):
    """Wish for 10**17 workers, then close again and again."""

    async def say(**message):
        await socket.send_str(json.dumps({"op": "report", **message}))

    async with hostile.channel() as socket:
        await socket.receive(30)
        for target in (10**9, 10**17):
            await say(target=target)
        jobs = lambda: len(agents(hostile.name))  # noqa: E731
        await asyncio.to_thread(wait_until, lambda: jobs() == 3, "scheduler and two workers")
        await say(target=10**9)
        for _ in range(20):
            with contextlib.suppress(ConnectionError):
                await say(op="closing", reason="\x1b[2J\nFORGED")
        await closed(socket)
    assert jobs() <= 3


def agents(name):
    """The first processes of a cluster's jobs."""
    tags = [f"{name}-{sequence}" for sequence in range(20)]
    found = [process for tag in tags for process in job_processes(tag)]
    return [process for process in found if "--child" not in process.cmdline()]


async def test_a_target_beyond_all_limits(facility):
    """With an adaptive cluster, the target of a hostile scheduler is clamped to the limit of 2."""
    with facility.client(facility.bob) as client:
        name = client.submit()  # profile small: at most two workers
        client.connect(name).close()
        client.adapt_cluster(name, minimum=0, maximum=None)
        other = Hostile(facility, client, name, facility.secrets(name, facility.bob))
        with agent_held(name):
            await exaggerate(other)
        wait = lambda: client.get_cluster(name).status is ClusterStatus.STOPPED  # noqa: E731
        await asyncio.to_thread(wait_until, wait, "it closes, once")
        path = f"/api/v1/clusters/{name}"
        gone = facility.ask(None, "GET", f"{path}/channel", headers=other.headers)
        assert gone[0] == 410
        assert "is over" in gone[1]
        text = facility.ask(facility.bob, "GET", f"{path}/events")[1]
        events = json.loads(text)["events"]
        assert len(events) < 30
        assert all(event["text"].isprintable() for event in events)
        assert "The scheduler closed:  [2J FORGED" in json.loads(text)["reason"]


def test_a_loop_of_changes_is_slowed_down_for_its_user_alone(facility, hostile, victim):
    cluster, _ = victim
    path = f"/api/v1/clusters/{hostile.name}/scale"
    answers = [facility.ask(facility.bob, "POST", path, {"count": 0})[:2] for _ in range(200)]
    refused = [text for status, text in answers if status == 409]
    assert any("too often" in text for text in refused)
    own = f"/api/v1/clusters/{cluster.name}/scale"
    assert facility.ask(facility.alice, "POST", own, {"count": 1})[0] == 200
