"""A server's side of the channel and real agents as sub-processes, for tests of the agent alone."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import signal
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.agent import source
from penstock.model import wire

DEADLINE = 90.0

Message = dict[str, object]


async def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition; fails the test after a generous deadline."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.05)


def keypair() -> tuple[str, str]:
    """A self-signed certificate and its key (PEM), as every cluster has one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dask-internal")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("dask-internal"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    usage = x509.SubjectAlternativeName(names)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(usage, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return cert.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


@dataclass
class ChannelServer:
    """Speaks the server's side of ``penstock.model.wire`` and remembers all it heard."""

    token: str = "t0ken"
    period: float = 0.5
    adapt: Message = field(default_factory=lambda: {"active": False, "minimum": 0, "maximum": None})
    port: int = 0
    heard: list[Message] = field(default_factory=list)
    exits: list[Message] = field(default_factory=list)
    last_words: list[Message] = field(default_factory=list)
    refused: int = 0
    answer: int = 0
    """An HTTP status to refuse channels with; 0 serves them."""
    links: list[web.WebSocketResponse] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, on the same port as before once there was one."""
        app = web.Application()
        app.router.add_get("/api/v1/clusters/{name}/channel", self._channel)
        app.router.add_post("/api/v1/clusters/{name}/exits", self._exit)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        for link in list(self.links):
            await link.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def send(self, message: object) -> None:
        """Send a message (or text as it is) to the agent."""
        await self.links[-1].send_str(message if isinstance(message, str) else json.dumps(message))

    def said(self, op: str) -> list[Message]:
        """All messages of one kind so far."""
        return [message for message in self.heard if message["op"] == op]

    @property
    def last(self) -> Message:
        """The newest report."""
        return self.said("report")[-1]

    @property
    def workers(self) -> set[str]:
        """The workers that the messages add up to since the last hello."""
        found: set[str] = set()
        for message in self.heard:
            if message["op"] == "hello":
                found = set(message["workers"])  # type: ignore[call-overload]
            elif message["op"] == "report":
                found |= set(message["added"])  # type: ignore[call-overload]
                found -= set(message["removed"])  # type: ignore[call-overload]
        return found

    def _known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"token {self.token}"

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        if self.answer or not self._known(request):
            self.refused += 1
            return web.Response(status=self.answer or 401)
        link = web.WebSocketResponse(max_msg_size=wire.MAX_FRAME)
        await link.prepare(request)
        self.links.append(link)
        try:
            async for frame in link:
                assert frame.type is WSMsgType.TEXT
                message = json.loads(frame.data)
                self.heard.append(message)
                if message["op"] == "hello":
                    welcome = {"op": "welcome", "period": self.period, "adapt": self.adapt}
                    await link.send_json(welcome)
        finally:
            self.links.remove(link)
        return link

    async def _exit(self, request: web.Request) -> web.Response:
        assert self._known(request)
        report = await request.json()
        (self.last_words if report["last_words"] else self.exits).append(report)
        return web.Response(status=204)


@dataclass
class Job:
    """One running agent: its process, its directory, and everything that it started."""

    process: asyncio.subprocess.Process
    directory: Path
    tag: str

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """All living processes of the job, however deep, found by the tag in their environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("PENSTOCK_TAG") == self.tag:
                    found.append(process)
        return found

    def child(self) -> psutil.Process:
        """The Dask process (a nanny counts; its worker does not)."""
        return next(p for p in psutil.Process(self.process.pid).children() if p.is_running())

    async def wait(self, seconds: float = DEADLINE) -> int:
        """The exit code, once the agent and all that it started are gone."""
        code = await asyncio.wait_for(self.process.wait(), seconds)
        await until(lambda: not self.processes(), "the job's processes to go")
        return code

    async def clean(self) -> None:
        """Kill whatever is left; for the end of a test that failed."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass
class Rig:
    """A cluster's worth of agents in one environment, with the server that they report to."""

    python: Path
    directory: Path
    server: ChannelServer
    cert: str
    key: str
    jobs: list[Job] = field(default_factory=list)

    def config(self, role: str, sequence: int, **more: object) -> Message:
        """An AGENT_CONFIG with the usual values."""
        return {
            "role": role,
            "cluster": "c" * 32,
            "sequence": sequence,
            "servers": [self.server.url],
            "token": self.server.token,
            "tls_cert": self.cert,
            "tls_key": self.key,
            "ca": None,
            "contact_host": "127.0.0.1",
            "dashboard": True,
            "give_up": 600,
            **more,
        }

    async def start(
        self, config: Mapping[str, object], *, index: int = 0, env: Mapping[str, str] | None = None
    ) -> Job:
        """Start one agent as a backend would: private directory, own environment and group."""
        tag = f"test-{uuid.uuid4().hex}"
        place = self.directory / tag
        place.mkdir(mode=0o700)
        (place / wire.AGENT_FILE).write_bytes(source())
        (place / wire.CONFIG_FILE).write_text(json.dumps(config))
        whole = {"PATH": "/usr/bin:/bin", "HOME": str(place), "PENSTOCK_INDEX": str(index)}
        with open(place / "log", "wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(self.python),
                wire.AGENT_FILE,
                cwd=place,
                env={**whole, **(env or {}), "PENSTOCK_TAG": tag},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.jobs.append(Job(process, place, tag))
        return self.jobs[-1]

    async def scheduler(self, **more: object) -> Job:
        """Start a scheduler and wait for its hello."""
        before = len(self.server.said("hello"))
        job = await self.start(self.config("scheduler", 0, **more))
        await until(lambda: len(self.server.said("hello")) > before or self.server.exits, "a hello")
        assert not self.server.exits, self.server.exits
        return job

    async def worker(self, sequence: int = 1, index: int = 0, **more: object) -> Job:
        """Start a worker of the scheduler that said hello last, and wait until it is reported."""
        address = self.server.said("hello")[-1]["scheduler_address"]
        options = {"nthreads": 1, "memory": 2**29, "nanny": False, "scheduler_address": address}
        config = self.config("worker", sequence, **{**options, **more})
        job = await self.start(config, index=index)
        await until(lambda: f"w{sequence}-{index}" in self.server.workers, "the worker")
        return job

    @asynccontextmanager
    async def client(self, script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a script in the jobs' environment, with ``client`` connected to the scheduler.

        It speaks by lines on its standard output and waits by ``input()``.
        """
        place = self.directory / f"client-{uuid.uuid4().hex}"
        place.mkdir()
        (place / "tls.crt").write_text(self.cert)
        (place / "tls.key").write_text(self.key)
        address = self.server.said("hello")[-1]["scheduler_address"]
        (place / "script.py").write_text(
            "from distributed import Client\n"
            "from distributed.security import Security\n"
            "security = Security(tls_ca_file='tls.crt', tls_client_cert='tls.crt',\n"
            "    tls_client_key='tls.key', require_encryption=True)\n"
            f"client = Client({address!r}, security=security, timeout=60)\n" + script
        )
        process = await asyncio.create_subprocess_exec(
            str(self.python),
            "-u",
            "script.py",
            cwd=place,
            env={"PATH": "/usr/bin:/bin", "HOME": str(place)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def close(self) -> None:
        """End everything."""
        for job in self.jobs:
            await job.clean()
        await self.server.stop()


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line that a client's script prints."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), DEADLINE)).decode().strip()


async def go_on(process: asyncio.subprocess.Process) -> None:
    """Let a client's script go on from its ``input()``."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


def own_python() -> Path:
    """The interpreter of the tests, with the newest of everything."""
    return Path(sys.executable)
