"""The server's own Unix socket: what ``penstock stop`` says, to this Unix user (and root) alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

import penstock
from penstock.control import Control
from penstock.model.cluster import Status
from penstock.model.errors import PenstockError

_ACTIVE = (Status.PENDING, Status.RUNNING, Status.STOPPING)


async def start_admin(path: Path, control: Control, quit_event: asyncio.Event) -> web.AppRunner:
    """Listen at ``path`` (0600, in a 0700 directory) until the runner is cleaned up."""

    async def status(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "pid": os.getpid(),
                "version": penstock.__version__,
                "clusters": len(control.list(statuses=_ACTIVE)),
            }
        )

    async def drain(request: web.Request) -> web.Response:
        await control.stop_all("the gateway was drained by its admin")
        return web.json_response({})

    async def quit_(request: web.Request) -> web.Response:
        quit_event.set()
        return web.json_response({})

    app = web.Application()
    app.add_routes(
        [web.get("/status", status), web.post("/drain", drain), web.post("/quit", quit_)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path.unlink(missing_ok=True)
    await web.UnixSite(runner, path).start()
    path.chmod(0o600)
    return runner


async def ask(path: Path, method: str, what: str, *, timeout: float) -> dict[str, object]:
    """Call the running server's admin socket. Raises PenstockError when there is no answer."""
    try:
        async with (
            ClientSession(
                connector=UnixConnector(path=str(path)), timeout=ClientTimeout(total=timeout)
            ) as session,
            session.request(method, f"http://penstock/{what}") as response,
        ):
            answer: dict[str, object] = await response.json()
            return answer
    except (OSError, asyncio.TimeoutError) as error:
        raise PenstockError(f"The server does not answer at {path}: {error or 'timeout'}") from None
