"""The proxy on real connections, between a client that is not a browser and a scheduler that lies."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from penstock.auth import Signer, User
from penstock.dashboards import Bounds, Lifetimes, add_routes, ticket_route
from penstock.dashboards.grants import Grants, Kind, Viewer
from penstock.model.cluster import Cluster, Status
from rigs.dashboards import authenticate, basic, make_cluster

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALICE, BOB = {"Authorization": basic("alice")}, {"Authorization": basic("bob")}
PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
SANDBOXED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "null"}
BOUNDS = Bounds(connect=5, stall=5, message=1 << 20)


class Site:
    """A gateway before one scheduler's server, and a client."""

    def __init__(self, cluster: Cluster, client: aiohttp.ClientSession) -> None:
        self.cluster, self.client = cluster, client
        self.clusters = {cluster.name: cluster}
        self.signer = Signer(b"s" * 32)
        self.ahead = 0.0
        self.server: TestServer

    def now(self) -> float:
        return 1_800_000_000.0 + self.ahead

    @property
    def path(self) -> str:
        return f"/clusters/{self.cluster.name}"

    @property
    def capability(self) -> str:
        grants = Grants(self.signer)
        token = grants.make(Kind.CAPABILITY, self.cluster.name, Viewer("bob"), self.now())
        return f"{self.path}/~{token}"

    def ticket(self, user: str = "bob") -> str:
        return ticket_route(self.cluster, User(user, frozenset(), False), self.signer, self.now())

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", **more: object
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.server.make_url("/").origin()
        async with self.client.request(
            method,
            aiohttp.client.URL(f"{url}{path}", encoded=True),
            headers=headers,
            allow_redirects=False,
            **more,  # type: ignore[arg-type]
        ) as answer:
            yield answer

    async def text(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        async with self.get(path, headers) as answer:
            return answer.status, await answer.text()

    def socket(self, path: str, **options: object) -> object:
        return self.client.ws_connect(self.server.make_url(path), **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def site(
    *routes: web.AbstractRouteDef, bounds: Bounds = BOUNDS, dashboard: str | None = None
) -> AsyncIterator[Site]:
    """A site whose scheduler has these routes; the cluster is bob's, and alice is an admin."""
    upstream = web.Application(client_max_size=1 << 24)
    upstream.add_routes(routes)
    async with (
        TestServer(upstream) as scheduler,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        address = f"http://127.0.0.1:{scheduler.port}" if dashboard is None else dashboard
        found = Site(make_cluster("bob", address), client)
        app = web.Application()
        add_routes(
            app,
            get_cluster=found.clusters.get,
            signer=found.signer,
            authenticate=authenticate,
            clock=found.now,
            bounds=bounds,
            lifetimes=Lifetimes(),
        )
        async with TestServer(app) as server:
            found.server = server
            yield found


def says(text: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return handler


# --- who


async def test_programs_use_their_password_without_detour() -> None:
    async with site(web.get("/metrics", says("dask 1\n"))) as found:
        assert await found.text(f"{found.path}/metrics", BOB) == (200, "dask 1\n")
        assert (await found.text(f"{found.path}/metrics", ALICE))[0] == 404  # though an admin
        async with found.get(f"{found.path}/metrics") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_somebody_elses_cluster_is_answered_as_one_that_does_not_exist() -> None:
    async with site(web.get("/status", says("secret"))) as found:
        mallory = {"Authorization": basic("mallory")}
        for headers in (mallory, mallory | PAGE, {}, PAGE, {"Authorization": "Basic eDp5"}):
            for page in ("/status", "/metrics", "", "/~x.y/status", "/status/ws"):
                answers = []
                for name in (found.cluster.name, "f" * 32):
                    async with found.get(f"/clusters/{name}{page}", headers) as answer:
                        body = (await answer.text()).replace(name, "NAME")
                        kept = {k: v for k, v in answer.headers.items() if k != "Content-Length"}
                        answers.append((answer.status, kept, body))
                assert answers[0] == answers[1]
                assert "secret" not in answers[0][2]


async def test_a_ticket_becomes_a_cookie_for_this_cluster_only() -> None:
    async with site(web.get("/status", says("drawn"))) as found:
        for _ in range(2):  # a link may be opened twice
            async with found.get(found.ticket(), PAGE) as answer:
                assert answer.status == 303
                there, cookie = answer.headers["Location"], answer.headers["Set-Cookie"]
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert f"Path={found.path}/" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        pair = cookie.partition(";")[0]
        assert await found.text(there, PAGE | {"Cookie": pair}) == (200, "drawn")
        assert (await found.text(there, PAGE))[0] == 401  # the address alone opens nothing
        assert await found.text(f"{found.path}/status", {"Cookie": pair}) == (200, "drawn")
        other = make_cluster("bob", found.cluster.dashboard_address)
        found.clusters[other.name] = other
        assert (await found.text(f"/clusters/{other.name}/status", {"Cookie": pair}))[0] == 401
        moved = there.replace(found.cluster.name, other.name)
        assert (await found.text(moved, PAGE | {"Cookie": pair}))[0] == 401
        assert (await found.text(moved, SANDBOXED))[0] == 403


async def test_a_session_renews_capabilities_and_not_itself() -> None:
    async with site(web.get("/status", says("drawn"))) as found:
        async with found.get(found.ticket(), PAGE) as answer:
            there = answer.headers["Location"]
            with_cookie = PAGE | {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        found.ahead = 6 * 3600
        assert (await found.text(there, SANDBOXED))[0] == 403
        async with found.get(there, with_cookie) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] != there
            assert "Set-Cookie" not in answer.headers
            assert await found.text(answer.headers["Location"], with_cookie) == (200, "drawn")
        found.ahead = 12 * 3600
        assert (await found.text(there, with_cookie))[0] == 401


async def test_a_ticket_of_somebody_else_opens_nothing() -> None:
    async with site(web.get("/status", says("drawn"))) as found:
        assert (await found.text(found.ticket("mallory"), PAGE))[0] == 404
        found.ahead = 3600 + 1
        late = ticket_route(
            found.cluster, User("bob", frozenset(), False), found.signer, 1_800_000_000.0
        )
        assert (await found.text(late, PAGE))[0] == 401


async def test_frames_need_no_cookie_but_a_capability() -> None:
    frame = PAGE | {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"}
    async with site(web.get("/individual-x", says("pane"))) as found:
        async with found.get(f"{found.capability}/individual-x", frame) as answer:
            assert answer.status == 200
            assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        status, text = await found.text(f"{found.path}/individual-x", frame)
        assert status == 401
        assert "not valid any more" in text
        assert "<form" not in text
        base = found.ticket().removesuffix("/status")
        assert await found.text(f"{base}/individual-x") == (200, "pane")  # the Lab's own check


async def test_the_login_form_checks_where_it_comes_from() -> None:
    async with site(web.get("/workers", says("table"))) as found:
        form = {"user": "bob", "password": "builder", "page": "/workers"}
        login = f"{found.path}/~login"
        for evil in (
            {"Origin": "null"},
            {"Origin": "http://evil"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            async with found.get(login, evil, "POST", data=form) as answer:
                assert answer.status == 403
                assert "Set-Cookie" not in answer.headers
        async with found.get(login, {}, "POST", data=form) as answer:
            assert answer.status == 303
            assert answer.headers["Location"].endswith("/workers")
            assert answer.headers["Location"].startswith(f"{found.path}/~")
            assert f"Path={found.path}/" in answer.headers["Set-Cookie"]
        async with found.get(login, {}, "POST", data=form | {"page": "//evil.example/"}) as answer:
            assert answer.headers["Location"].startswith(f"{found.path}/~")
        for wrong in ({"password": "x"}, {"user": ""}, {"user": "a:b"}, {"user": "x" * 20000}):
            async with found.get(login, {}, "POST", data=form | wrong) as answer:
                assert answer.status == 401
                assert "Set-Cookie" not in answer.headers
        other = form | {"user": "mallory", "password": "mischief"}
        async with found.get(login, {}, "POST", data=other) as answer:
            assert answer.status == 404
            assert "Set-Cookie" not in answer.headers


# --- what the scheduler sees, and what it may answer


async def test_the_scheduler_sees_no_credential_and_the_path_as_it_came() -> None:
    seen: list[web.Request] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(text="noted")

    async with site(web.get("/{rest:.*}", note)) as found:
        page = "/info/worker/tls%3A%2F%2F10.0.0.5%3A4711.html?a=%20b&c=[1]"
        headers = BOB | {"Cookie": "penstock-session=x", "Referer": "http://g/~secret/"}
        assert await found.text(found.path + page, headers) == (200, "noted")
        assert seen[0].raw_path == page
        assert seen[0].headers["Host"] == found.cluster.dashboard_address.removeprefix("http://")
        names = {name.lower() for name in seen[0].headers}
        assert names == {"host", "accept", "accept-encoding", "user-agent"}
        for bad in ("/../api", "/%2e%2e/x", "/a%0d%0aX-Y:z", "/a\\..\\b"):
            assert (await found.text(found.path + bad, BOB))[0] == 404
        assert len(seen) == 1


async def test_answers_lose_what_could_harm_and_get_the_sandbox() -> None:
    async def harm(_: web.Request) -> web.Response:
        return web.Response(
            text="<script>1</script>",
            content_type="text/html",
            headers={
                "Set-Cookie": "penstock-session=evil; Path=/",
                "Clear-Site-Data": '"*"',
                "Content-Security-Policy": "default-src *",
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Allow-Origin": "http://evil.example",
                "Refresh": "0; url=http://evil.example",
                "Service-Worker-Allowed": "/",
                "ETag": '"fine"',
            },
        )

    async with site(web.get("/status", harm)) as found:
        async with found.get(f"{found.path}/status", BOB) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts ")
            assert answer.headers["ETag"] == '"fine"'
            for name in ("Set-Cookie", "Clear-Site-Data", "Refresh", "Service-Worker-Allowed"):
                assert name not in answer.headers
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with found.get(f"{found.capability}/status", SANDBOXED) as answer:
            assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert len(answer.headers.getall("Content-Security-Policy")) == 1


async def test_redirects_stay_with_the_cluster() -> None:
    async def to(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async with site(web.get("/info/", to), web.get("/status", says("x"))) as found:
        async with found.get(f"{found.path}/info/?to=../status", BOB) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, f"{found.path}/status")
        for evil in ("http://127.0.0.1:1/", "//evil.example", "javascript:1", "/%252e%252e/"):
            async with found.get(f"{found.path}/info/?to={evil}", BOB) as answer:
                assert evil == "/%252e%252e/" or "Location" not in answer.headers
                assert "evil" not in answer.headers.get("Location", "")


async def test_nothing_but_looking() -> None:
    async with site(web.route("*", "/status", says("done"))) as found:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
            for path in (f"{found.path}/status", f"{found.capability}/status"):
                async with found.get(path, BOB, method) as answer:
                    assert answer.status == 405
        async with found.get(f"{found.path}/status", BOB, "HEAD") as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "4")


async def test_service_workers_are_not_served() -> None:
    async with site(web.get("/sw.js", says("x"))) as found:
        worker = SANDBOXED | {"Service-Worker": "script"}
        assert (await found.text(f"{found.capability}/sw.js", worker))[0] == 403


# --- streams


async def test_a_body_is_passed_as_it_comes_and_not_unpacked() -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await go_on.wait()
        await response.write(b"second")
        return response

    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=b"not really gzip", headers={"Content-Encoding": "gzip"})

    async with site(web.get("/slow", slow), web.get("/packed", packed)) as found:
        async with found.get(f"{found.path}/slow", BOB) as answer:
            assert await answer.content.readany() == b"first"
            go_on.set()
            assert await answer.content.read() == b"second"
        async with aiohttp.ClientSession(auto_decompress=False) as raw:
            url = found.server.make_url(f"{found.path}/packed")
            async with raw.get(url, headers=BOB) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert await answer.read() == b"not really gzip"


async def test_a_slow_viewer_slows_the_scheduler() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 30:
                await response.write(b"x" * (1 << 16))
                sent += 1 << 16
        return response

    async with (
        site(web.get("/endless", endless)) as found,
        found.get(f"{found.path}/endless", BOB) as answer,
    ):
        last = -1
        while sent != last:  # until nothing moves any more
            last = sent
            await asyncio.sleep(0.3)
        assert sent < 64 << 20
        answer.close()


async def test_an_answer_that_is_cut_off_is_cut_off_for_the_viewer() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        assert request.transport is not None
        request.transport.close()
        return response

    async with site(web.get("/cut", cut)) as found, found.get(f"{found.path}/cut", BOB) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_scheduler_that_hangs_or_is_gone_gets_a_page_that_says_so() -> None:
    never = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with site(web.get("/hang", hang), bounds=Bounds(connect=1, stall=0.2)) as found:
        status, text = await found.text(f"{found.path}/hang", BOB)
        assert status == 504
        assert "took too long" in text
        never.set()
    async with site(dashboard="http://127.0.0.1:1") as found:
        status, text = await found.text(f"{found.path}/status", BOB)
        assert status == 502
        assert "did not answer" in text


@pytest.mark.parametrize(
    "lies",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_a_server_that_does_not_speak_http_harms_nobody(lies: bytes) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(lies)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(lie, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, site(dashboard=f"http://127.0.0.1:{port}") as found:
        status, text = await found.text(f"{found.path}/status", BOB)
        assert status == 502
        assert "did not answer" in text


# --- what there is to show


@pytest.mark.parametrize(
    ("status", "answered", "text"),
    [
        (Status.PENDING, 503, "is starting"),
        (Status.STOPPING, 404, "is stopping"),
        (Status.STOPPED, 404, "has stopped"),
        (Status.FAILED, 404, "sbatch: &lt;b&gt;invalid&lt;/b&gt; partition"),
        (Status.RUNNING, 404, "has no dashboard"),
    ],
)
async def test_why_there_is_nothing_to_show(status: Status, answered: int, text: str) -> None:
    async with site(dashboard="") as found:
        found.clusters[found.cluster.name] = dataclasses.replace(
            found.cluster, status=status, reason="sbatch: <b>invalid</b> partition"
        )
        got, body = await found.text(f"{found.path}/status", BOB)
        assert got == answered
        assert text in body


# --- WebSockets


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Answers each message with itself; knows Bokeh's subprotocol; closes when told."""
    socket = web.WebSocketResponse(protocols=("bokeh",), max_msg_size=1 << 24)
    await socket.prepare(request)
    await socket.send_str(request.headers.get("Sec-WebSocket-Protocol", "-"))
    await socket.send_str(request.headers["Origin"])
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4007, message=b"as asked")
        elif message.data == "big":
            await socket.send_bytes(b"x" * (2 << 20))
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def test_websockets_go_both_ways_with_subprotocol_and_close_code() -> None:
    async with site(web.get("/status/ws", echo)) as found:
        protocols = ("bokeh", "token.of-bokeh_1")
        async with found.socket(  # type: ignore[attr-defined]
            f"{found.capability}/status/ws", protocols=protocols, headers={"Origin": "null"}
        ) as socket:
            assert socket.protocol == "bokeh"
            assert await socket.receive_str() == "bokeh,token.of-bokeh_1"
            assert await socket.receive_str() == found.cluster.dashboard_address
            await socket.send_str("text ä")
            assert await socket.receive_str() == "text ä"
            await socket.send_bytes(b"\x00" * 100_000)
            assert await socket.receive_bytes() == b"\x00" * 100_000
            await socket.send_str("bye")
            last = await socket.receive()
            assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 4007, "as asked")


async def test_a_viewers_close_reaches_the_scheduler() -> None:
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def watch(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        closed.set_result((await socket.receive()).data)
        return socket

    async with site(web.get("/ws", watch)) as found:
        async with found.socket(f"{found.path}/ws", headers=BOB) as socket:  # type: ignore[attr-defined]
            await socket.close(code=4001)
        assert await asyncio.wait_for(closed, 10) == 4001


async def test_messages_are_bounded_either_way() -> None:
    async with site(web.get("/ws", echo)) as found:
        async with found.socket(f"{found.path}/ws", headers=BOB) as socket:  # type: ignore[attr-defined]
            await socket.receive_str()
            await socket.receive_str()
            await socket.send_str("big")
            last = await socket.receive()
            assert (last.type, last.data) == (WSMsgType.CLOSE, 1009)
        async with found.socket(f"{found.path}/ws", headers=BOB) as socket:  # type: ignore[attr-defined]
            await socket.receive_str()
            await socket.receive_str()
            await socket.send_bytes(b"x" * (2 << 20))
            last = await socket.receive()
            assert last.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("cookie", {"Origin": "null"}, 401),
        ("cookie", {**BOB, "Origin": "null"}, 403),
        ("cookie", {**BOB, "Origin": "http://evil.example"}, 403),
        ("cookie", {"Authorization": basic("mallory")}, 404),
        ("capability", {"Origin": "http://evil.example"}, 403),
    ],
)
async def test_foreign_handshakes_are_refused(
    path: str, headers: dict[str, str], status: int
) -> None:
    async with site(web.get("/ws", echo)) as found:
        base = found.capability if path == "capability" else found.path
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await found.socket(f"{base}/ws", headers=headers)  # type: ignore[misc]
        assert refused.value.status == status


async def test_a_handshake_is_led_nowhere_else() -> None:
    reached: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    async with site(web.get("/other", elsewhere)) as victim:
        target = f"{victim.cluster.dashboard_address}/other"

        async def lead(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": target})

        async with site(web.get("/ws", lead)) as found:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await found.socket(f"{found.path}/ws", headers=BOB)  # type: ignore[misc]
            assert refused.value.status == 502
            assert (await found.text(f"{found.path}/ws", BOB))[0] == 502
        assert reached == []


async def test_a_stopping_server_ends_its_sockets() -> None:
    async with site(web.get("/ws", echo)) as found:
        socket = await found.socket(f"{found.path}/ws", headers=BOB)  # type: ignore[misc]
        await socket.receive_str()
        await socket.receive_str()
        closing = asyncio.create_task(found.server.close())
        last = await asyncio.wait_for(socket.receive(), 10)
        assert (last.type, last.data) == (WSMsgType.CLOSE, 1001)
        await socket.close()
        await asyncio.wait_for(closing, 10)
