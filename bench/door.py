"""The front door against the Go proxy of ``dask-gateway-server`` and against no proxy at all.

    python -m bench.door [--rounds 5] [--gigabytes 1] [--json FILE]

All three run side by side in one run, in interleaved rounds; what is printed are medians, and the
ratios door/Go of the medians. The targets are those of docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.door_target import MESSAGE, send_many

from penstock.door.config import DoorConfig
from penstock.door.routes import Routes

HERE = Path(__file__).parent
TASKS = ("sink", "source", "echo", "once", "idle")
NAMES = {task: f"{number:032x}" for number, task in enumerate(TASKS, 10)}


def client_hello(name: str) -> bytes:
    """A real ClientHello that asks for a cluster, to be replayed before raw bytes."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=f"daskgateway-{name}")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


HELLOS = {task: client_hello(name) for task, name in NAMES.items()}


@dataclass
class Variant:
    """One way to the target: its port for each task, and its process, if it has one."""

    name: str
    ports: dict[str, int]
    pid: int | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)

    def connect(self, task: str) -> socket.socket:
        """Connect and send the hello."""
        sock = socket.create_connection(("127.0.0.1", self.ports[task]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(HELLOS[task])
        return sock

    def note(self, figure: str, value: float) -> None:
        """Keep one round's figure."""
        self.figures.setdefault(figure, []).append(value)

    def cpu(self) -> float:
        """CPU-seconds that the proxy process has used until now."""
        if self.pid is None:
            return 0.0
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> float:
        """Resident memory of the proxy process in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def upload(variant: Variant, size: int) -> None:
    """Client → scheduler."""
    with variant.connect("sink") as sock:
        cpu, start = variant.cpu(), time.perf_counter()
        sock.sendall(b"%020d" % size)
        send_many(sock, size)
        assert sock.recv(1) == b"!", variant.name
        seconds = time.perf_counter() - start
    variant.note("upload GB/s", size / 1e9 / seconds)
    variant.note("upload CPU s/GB", (variant.cpu() - cpu) / (size / 1e9))


def download(variant: Variant, size: int) -> None:
    """Scheduler → client."""
    buffer = bytearray(1 << 20)
    with variant.connect("source") as sock:
        cpu, start, left = variant.cpu(), time.perf_counter(), size
        sock.sendall(b"%020d" % size)
        while left:
            got = sock.recv_into(buffer)
            assert got, variant.name
            left -= got
        seconds = time.perf_counter() - start
    variant.note("download GB/s", size / 1e9 / seconds)
    variant.note("download CPU s/GB", (variant.cpu() - cpu) / (size / 1e9))


def round_trip(variant: Variant, count: int) -> None:
    """One message of 400 bytes there and back, one after the other."""
    message = b"m" * MESSAGE
    times = []
    with variant.connect("echo") as sock:
        for _ in range(count):
            start = time.perf_counter()
            sock.sendall(message)
            sock.recv(MESSAGE, socket.MSG_WAITALL)
            times.append(time.perf_counter() - start)
    times = sorted(times[count // 10 :])
    variant.note("round trip p50 µs", times[len(times) // 2] * 1e6)
    variant.note("round trip p99 µs", times[len(times) * 99 // 100] * 1e6)


def connections(variant: Variant, count: int) -> None:
    """Connect, hello, one byte back, close; four clients at a time."""

    def work() -> None:
        for _ in range(count // 4):
            with variant.connect("once") as sock:
                got = sock.recv(99)
                assert got == b"!", (variant.name, got)

    workers = [threading.Thread(target=work) for _ in range(4)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    variant.note("connections /s", count / (time.perf_counter() - start))


def idle_memory(variant: Variant, count: int) -> None:
    """Memory of the proxy while this many connections are open and silent."""
    before = variant.memory()
    socks = [variant.connect("idle") for _ in range(count)]
    for sock in socks:
        assert sock.recv(1) == b"!", variant.name
    variant.note("idle MB", variant.memory())
    variant.note("idle kB each", (variant.memory() - before) * 1e3 / count)
    for sock in socks:
        sock.close()


@contextlib.contextmanager
def target() -> Iterator[dict[str, int]]:
    """The process behind the proxies; yields its port for each task."""
    sizes = {len(hello) for hello in HELLOS.values()}
    assert len(sizes) == 1
    command = [sys.executable, str(HERE / "door_target.py"), str(sizes.pop())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.communicate()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def routes_api(targets: dict[str, int]) -> ThreadingHTTPServer:
    """The API from which the Go proxy gets its routes: the whole table, then a silent watch."""
    table = [
        {"kind": "SNI", "sni": name, "target": f"127.0.0.1:{targets[task]}"}
        for task, name in NAMES.items()
    ]
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            body = b"" if "watch" in self.path else json.dumps({"routes": table, "id": 1}).encode()
            if body:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            if not body:
                ended.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextlib.contextmanager
def go_proxy(targets: dict[str, int]) -> Iterator[Variant]:
    """The proxy of dask-gateway-server, as its server starts it."""
    import dask_gateway_server.proxy.core as core

    program = Path(core.__file__).with_name("dask-gateway-proxy")
    api, port = routes_api(targets), free_port()
    url = f"http://127.0.0.1:{api.server_address[1]}/api/v1/routes"
    command = [str(program), "-address", f"127.0.0.1:{port}", "-tcp-address", f"127.0.0.1:{port}"]
    command += ["-api-url", url, "-log-level", "warn"]
    environ = {**os.environ, "DASK_GATEWAY_PROXY_TOKEN": "0" * 32}
    process = subprocess.Popen(command, env=environ)
    try:
        yield Variant("Go proxy", dict.fromkeys(TASKS, port), process.pid)
    finally:
        process.terminate()
        process.wait()
        api.shutdown()


@contextlib.contextmanager
def door(targets: dict[str, int], directory: str) -> Iterator[Variant]:
    """Our door, which knows its routes from its file."""
    port = free_port()
    config = DoorConfig.in_state(directory, (("127.0.0.1", port),))
    os.makedirs(os.path.dirname(config.routes), 0o700)
    routes = Routes(config.routes)
    routes.replace({NAMES[task]: ("127.0.0.1", targets[task]) for task in TASKS})
    routes.save()
    command = [sys.executable, "-I", "-m", "penstock.door", config.to_json()]
    process = subprocess.Popen(command)
    try:
        yield Variant("Penstock door", dict.fromkeys(TASKS, port), process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_until_open(variant: Variant) -> None:
    """Wait until a hello comes through."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with contextlib.suppress(OSError), variant.connect("once") as sock:
            if sock.recv(1) == b"!":
                return
        time.sleep(0.05)
    sys.exit(f"{variant.name} does not answer.")


def measure(variants: list[Variant], options: argparse.Namespace) -> None:
    """All figures, in interleaved rounds."""
    size = int(options.gigabytes * 1e9)
    steps: list[tuple[Callable[[Variant, int], None], int]] = [
        (round_trip, 4000), (upload, size), (download, size), (connections, 2000),
    ]  # fmt: skip
    for number in range(options.rounds):
        for step, amount in steps:
            if options.only and step.__name__ not in options.only:
                continue
            shift = number % len(variants)
            for variant in variants[shift:] + variants[:shift]:
                step(variant, amount)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    if not options.only or "idle" in options.only:
        for variant in variants:
            if variant.pid is not None:
                idle_memory(variant, 2000)


def report(variants: list[Variant]) -> dict[str, dict[str, float]]:
    """Print the table; returns the medians."""
    medians = {
        variant.name: {key: statistics.median(got) for key, got in variant.figures.items()}
        for variant in variants
    }
    ours, theirs = medians["Penstock door"], medians["Go proxy"]
    print("| figure (median) | direct | Go proxy | Penstock door | door / Go |")
    print("|---|---:|---:|---:|---:|")
    for key in ours:
        direct = f"{medians['direct'][key]:.4g}" if key in medians["direct"] else "–"
        ratio = f"{ours[key] / theirs[key]:.2f}" if theirs[key] else "–"
        print(f"| {key} | {direct} | {theirs[key]:.4g} | {ours[key]:.4g} | {ratio} |")
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument(
        "--only", nargs="*", help="some of: round_trip upload download connections idle"
    )
    parser.add_argument("--json", type=Path, help="write the medians to this file")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        targets = stack.enter_context(target())
        variants = [
            Variant("direct", targets),
            stack.enter_context(go_proxy(targets)),
            stack.enter_context(door(targets, directory)),
        ]
        for variant in variants:
            wait_until_open(variant)
        measure(variants, options)
        medians = report(variants)
    if options.json:
        options.json.write_text(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main()
