"""A hostile page (``hostile.js``) and what its tests need to know of the gateway under attack."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import web
from selenium import webdriver
from selenium.webdriver.common.by import By

from penstock.model.cluster import Cluster
from rigs.chromium import until

SECRET = "the other cluster's secret"
SCRIPT = (Path(__file__).parent / "hostile.js").read_text().replace("</", r"<\/")


class Attackable(Protocol):
    """The gateway under attack: a stand-in (``rigs.dashboards.Gateway``), or a real one."""

    base: str
    touched: list[str]
    """Requests that the API let pass, as "METHOD path"; CHANNEL for an agent's WebSocket."""
    credentials: str
    """``alice:<password>``; she is an admin."""

    def add(self, user: str, dashboard: str) -> Cluster:
        """A running cluster of that user with that dashboard."""

    def link(self, cluster: Cluster, user: str) -> str:
        """The address that the API gives this user for the cluster's dashboard."""


@dataclass
class Attack:
    """The state of one test: ``own`` is the hostile cluster, ``victim`` the other one.

    ``link`` is the hostile dashboard's, as the viewer gets it.
    """

    gateway: Attackable
    own: str = ""
    victim: str = ""
    link: str = ""
    victim_hits: list[str] = field(default_factory=list)

    @property
    def names(self) -> dict[str, str]:
        base = self.gateway.base
        return {
            "gateway": base,
            "api": f"{base}/api/v1/clusters/",
            "own": self.own,
            "victim": self.victim,
        }

    def html(self, start: str) -> str:
        return (
            "<!doctype html><title>waiting</title><body><button>Click me</button>"
            f"<script>const names = {json.dumps(self.names)};\n{SCRIPT}\n"
            f"document.querySelector('button').onclick = attackByClick;\n{start}</script>"
        )

    # What the two schedulers serve, and the foreign site.

    async def serve_victim(self, request: web.Request) -> web.StreamResponse:
        self.victim_hits.append(request.path)
        if request.headers.get("Upgrade"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(SECRET)
            return socket
        return web.Response(text=f"<p>{SECRET}</p>", content_type="text/html")

    async def serve_hostile(self, request: web.Request) -> web.StreamResponse:
        """The page, a service worker, redirects, and on everything the headers of a hostile server."""
        evil = web.Response(text=self.html("attack(true)"), content_type="text/html")
        if request.path == "/quiet":
            evil = web.Response(
                text=self.html("document.title = 'quiet'"), content_type="text/html"
            )
        elif request.path == "/worker.js":
            evil = web.Response(text="onfetch = e => 0", content_type="text/javascript")
        elif request.path == "/redirect":
            evil = web.Response(status=307, headers={"Location": request.query["to"]})
        elif request.path == "/prompt":
            evil = web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Penstock"'})
        for path in ("/", "/api", f"/clusters/{self.victim}/", f"/clusters/{self.own}/"):
            evil.headers.add("Set-Cookie", f"penstock-dashboard=evil; Path={path}")
            evil.headers.add("Set-Cookie", f"penstock-session=evil; Path={path}")
        evil.headers["Clear-Site-Data"] = '"cookies", "storage"'
        evil.headers["Service-Worker-Allowed"] = "/"
        evil.headers["Content-Security-Policy"] = "sandbox allow-same-origin allow-scripts"
        evil.headers["Access-Control-Allow-Credentials"] = "true"
        evil.headers["Link"] = f"<{self.names['api']}>; rel=preload; as=fetch"
        return evil

    async def serve_foreign(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/redirect":
            return web.Response(status=307, headers={"Location": request.query["to"]})
        return web.Response(text=self.html("attack(false)"), content_type="text/html")

    # What the test looks at.

    def changes(self) -> list[str]:
        """Everything but looking (and asking beforehand whether one may) that the API let pass."""
        return [each for each in self.gateway.touched if not each.startswith(("GET ", "OPTIONS "))]


def cookies(browser: webdriver.Chrome) -> list[tuple[str, str, str]]:
    """(name, path, value) of every cookie that the browser holds, HttpOnly or not."""
    found = browser.execute_cdp_cmd("Network.getAllCookies", {})["cookies"]
    return sorted((each["name"], each["path"], each["value"]) for each in found)


def outcome(browser: webdriver.Chrome, title: str) -> dict[str, str]:
    """What the attack won, once the page says that it is over; empty strings are left out."""
    until(lambda: browser.title == title, f"the page is {title}")
    wins: dict[str, str] = browser.execute_script("return wins")
    assert wins, "the attack did not run"
    return {what: won for what, won in wins.items() if won}


def click(browser: webdriver.Chrome) -> None:
    """A user's click, which is what browsers want before they open windows."""
    browser.find_element(By.TAG_NAME, "button").click()
