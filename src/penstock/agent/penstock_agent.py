"""The agent: runs one Dask scheduler or worker for Penstock, wherever a batch system put it.

The job's environment is the user's, so nothing of Penstock can be imported there. Hence ONE file
that travels with the job and needs Python >= 3.8 and ``distributed`` >= 2022.1 alone; that is also
why it is longer than a module of ours may be: there is nowhere to put a second one.

Two processes. The *supervisor* imports next to nothing (about 10 MB), passes the output on, keeps
its tail, and outlives whatever happens to the *child* (out of memory, a crash in native code, an
environment without ``distributed``), so that somebody is left to say what happened. The child is
the Dask process. Simpler, and not enough: an agent inside the Dask process dies with it.

What both sides say to each other, and the keys of ``penstock.json``, is defined in
``penstock.model.wire``. Sections: configuration, supervisor, child, rules, channel, scheduler, worker.

Everything up to the child also parses on Python 3.6 (no newer syntax in the whole file), so that a
``python3`` of an old system can still say that it is too old.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Set,
    Tuple,
)

PROTOCOL = 1
MAX_FRAME = 1 << 20
MAX_TAIL = 16 * 1024
CONFIG_FILE = "penstock.json"
OLDEST_PYTHON = (3, 8)
OLDEST_DISTRIBUTED = (2022, 1)

EXIT_BROKEN = 78  # EX_CONFIG of sysexits.h: nothing wrong with the job, but with what it runs in
TERM_GRACE = 20  # seconds between the SIGTERM that we pass on and SIGKILL
REPORT_TIME = 20.0  # seconds that an exit report may take over all
NAMES_BUDGET = MAX_FRAME // 3  # bytes of worker names in one message
REPORT_GAP = 0.5  # least seconds between two reports
CLOSE_TIME = 10.0  # seconds for a scheduler or worker to close by itself
NANNY_START = 120.0  # seconds to spawn a worker process, import distributed and register
WORKER_START = 60.0  # the same where the process already runs
REFUSED_TIME = 900.0  # seconds of nothing but "unknown cluster" or "wrong token"

Message = Dict[str, Any]


class Broken(Exception):
    """What runs this file cannot run Dask; the text says what to do, in one sentence."""


class Failed(Exception):
    """The Dask process could not do its work; the text is for the user."""


# ---------------------------------------------------------------- configuration


REQUIRED = {
    "role": str,
    "cluster": str,
    "sequence": int,
    "servers": list,
    "token": str,
    "tls_cert": str,
    "tls_key": str,
}
DEFAULTS = {
    "ca": None,
    "contact_host": None,
    "dashboard": True,
    "nthreads": 1,
    "memory": 0,
    "nanny": True,
    "lifetime": None,
    "lifetime_stagger": 0,
    "give_up": 86400.0,
}  # type: Message


def here(name: str = "") -> str:
    """The absolute path of a file in the job's private directory, where this file lies."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def parse_config(text: str) -> Message:
    """The job's configuration with its defaults. Raises Broken for one that cannot be used."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise Broken("%s is not JSON: %s" % (CONFIG_FILE, error)) from None
    if not isinstance(given, dict):
        raise Broken("%s holds no object" % CONFIG_FILE)
    for key, kind in REQUIRED.items():
        if not isinstance(given.get(key), kind):
            raise Broken("%s: %s must be %s" % (CONFIG_FILE, key, kind.__name__))
    if given["role"] not in ("scheduler", "worker"):
        raise Broken("%s: role must be scheduler or worker" % CONFIG_FILE)
    if given["role"] == "worker" and not isinstance(given.get("scheduler_address"), str):
        raise Broken("%s: a worker needs scheduler_address" % CONFIG_FILE)
    config = dict(DEFAULTS)
    config.update((key, value) for key, value in given.items() if value is not None)
    return config


def load_config() -> Message:
    """Read the configuration beside this file. Raises Broken."""
    try:
        with open(here(CONFIG_FILE), encoding="utf-8") as file:
            return parse_config(file.read())
    except OSError as error:
        raise Broken("cannot read %s: %s" % (here(CONFIG_FILE), error)) from None


def job_index(environ: Optional[Dict[str, str]] = None) -> int:
    """This job's index in its batch, from PENSTOCK_INDEX; 0 where there is none."""
    text = (os.environ if environ is None else environ).get("PENSTOCK_INDEX", "0")
    return int(text) if text.isdigit() else 0


def job_name(config: Message, index: int) -> str:
    """``w<sequence>-<index>``, or ``s…`` for a scheduler: the name in reports and in Dask."""
    return "%s%d-%d" % (config["role"][0], config["sequence"], index)


# ---------------------------------------------------------------- supervisor


class Ring:
    """The last ``size`` bytes of a stream."""

    def __init__(self, size: int = MAX_TAIL) -> None:
        self.size = size
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Append, and forget what is older than ``size`` bytes."""
        self.data += chunk[-self.size :]
        del self.data[: -self.size]

    def text(self) -> str:
        """The tail as text of at most ``size`` UTF-8 bytes; a broken first character is dropped."""
        text = bytes(self.data).decode("utf-8", "replace")
        return text.encode()[-self.size :].decode("utf-8", "ignore")


def python_version() -> str:
    """ "3.11.2" """
    return "%d.%d.%d" % tuple(sys.version_info[:3])


def python_name() -> str:
    """The interpreter as people find it again: path and version."""
    return "%s (Python %s)" % (sys.executable, python_version())


def exit_code(status: int) -> int:
    """A child's return code as a shell tells it: signal n reads as 128 + n."""
    return 128 - status if status < 0 else status


def explain(code: int, said: str, oom_kills: int) -> str:
    """Why the child died, for the user: its own words first, else what the code and kernel say."""
    if said:
        return said
    if code == 128 + signal.SIGKILL:
        if oom_kills > 0:
            return "killed by the kernel: out of memory"
        return "killed (SIGKILL), probably out of memory"
    if code > 128:
        try:
            return "killed (%s)" % signal.Signals(code - 128).name
        except ValueError:
            pass
    return "exited with code %d" % code


def oom_files(cgroups: str) -> Iterator[str]:
    """Files that count out-of-memory kills, from the text of /proc/self/cgroup (v2, then v1)."""
    for line in cgroups.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1] == "":
            yield "/sys/fs/cgroup%s/memory.events" % parts[2].rstrip("/")
        elif len(parts) == 3 and "memory" in parts[1].split(","):
            yield "/sys/fs/cgroup/memory%s/memory.oom_control" % parts[2].rstrip("/")


def oom_count(text: str) -> int:
    """The ``oom_kill`` line of memory.events or memory.oom_control; 0 without one."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def oom_kills() -> int:
    """How often the kernel killed for memory in our cgroup so far; 0 where it cannot be known."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            paths = list(oom_files(file.read()))
    except OSError:
        return 0
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                return oom_count(file.read())
        except OSError:
            continue
    return 0


def write_all(fd: int, data: bytes) -> None:
    """Write everything, or silently nothing more: a full disk must not stop the computation."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def pass_on(source: int, ring: Ring) -> None:
    """Copy the child's output to ours until it ends, keeping the tail."""
    while True:
        chunk = os.read(source, 65536)
        if not chunk:
            return
        ring.add(chunk)
        write_all(1, chunk)


class Supervisor:
    """Starts the child, stands by, and reports how it ended."""

    def __init__(self, config: Message) -> None:
        self.config = config
        self.ring = Ring()
        self.asked = False
        self.child = None  # type: Optional[subprocess.Popen[bytes]]

    def run(self) -> int:
        """Run the child to its end and return the exit code of the job."""
        before = oom_kills()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        signal.signal(signal.SIGALRM, self.on_alarm)
        try:
            said, status = self.run_child()
        except OSError as error:
            said, status = "cannot start %s: %s" % (python_name(), error), EXIT_BROKEN
        signal.alarm(0)
        code = exit_code(status)
        if code != 0 and not self.asked:
            reason = explain(code, said, oom_kills() - before)
            note("the %s ended: %s" % (self.config["role"], reason), self.ring)
            self.report(code, reason)
        return code

    def run_child(self) -> Tuple[str, int]:
        """(what the child said for a reason, its return code) once it is over."""
        reason_end, child_end = os.pipe()
        ids = [str(os.getpid()), str(child_end)]
        self.child = child = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--child", *ids],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(child_end,),
            env=dict(os.environ, PYTHONUNBUFFERED="1"),
        )
        os.close(child_end)
        if self.asked:  # the signal came before there was a child to pass it to
            child.send_signal(signal.SIGTERM)
        assert child.stdout is not None
        reader = threading.Thread(
            target=pass_on, args=(child.stdout.fileno(), self.ring), daemon=True
        )
        reader.start()
        status = child.wait()
        reader.join(2.0)  # a process of the user's may hold the pipe open for ever
        os.set_blocking(reason_end, False)
        try:
            return os.read(reason_end, 4096).decode("utf-8", "replace"), status
        except OSError:  # nothing said, and a process of the user's holds this pipe as well
            return "", status

    def on_signal(self, number: int, frame: object) -> None:
        """Pass the request to end on, and insist later."""
        self.asked = True
        if self.child is not None:
            self.child.send_signal(number)
        signal.alarm(TERM_GRACE)

    def on_alarm(self, number: int, frame: object) -> None:
        """The child had its time."""
        if self.child is not None:
            self.child.kill()

    def report(self, code: int, reason: str) -> None:
        """Tell the server how the child ended."""
        body = {
            "job": job_name(self.config, job_index()),
            "code": code,
            "reason": reason,
            "tail": self.ring.text(),
        }
        error = post_exit(self.config, json.dumps(body).encode())
        if error:
            note("no server took the report of this: %s" % error, self.ring)


def note(text: str, ring: Ring) -> None:
    """A line of our own in the job's output."""
    line = ("penstock: %s\n" % text).encode("utf-8", "replace")
    ring.add(line)
    write_all(1, line)


def ssl_context(config: Message) -> Any:
    """How servers are verified: the system's authorities, and the configured one."""
    import ssl

    context = ssl.create_default_context()
    if config["ca"]:
        context.load_verify_locations(cadata=config["ca"])
    return context


def post_exit(config: Message, body: bytes) -> str:
    """POST an exit report to the first server that answers; "" or the last error's words."""
    import urllib.error
    import urllib.request

    # The servers are the facility's own: a web proxy of the user's environment is not on the way.
    handlers = [urllib.request.ProxyHandler({})]  # type: List[Any]
    if any(str(server).startswith("https:") for server in config["servers"]):
        handlers.append(urllib.request.HTTPSHandler(context=ssl_context(config)))
    opener = urllib.request.build_opener(*handlers)
    headers = {"Authorization": "token " + config["token"], "Content-Type": "application/json"}
    end, error = time.monotonic() + REPORT_TIME, "no server is configured"
    for pause in backoff():
        for server in config["servers"]:
            url = "%s/api/v1/clusters/%s/exits" % (server.rstrip("/"), config["cluster"])
            try:
                request = urllib.request.Request(url, data=body, headers=headers, method="POST")
                left = end - time.monotonic()
                opener.open(request, timeout=max(0.1, min(5.0, left))).close()
                return ""
            except urllib.error.HTTPError as answer:
                error = "%s says %d" % (server, answer.code)
                if answer.code < 500:
                    return error
            except (OSError, ValueError) as problem:
                error = "%s: %s" % (server, problem)
        if time.monotonic() + pause >= end:
            break
        time.sleep(pause)
    return error


def backoff(first: float = 0.2, factor: float = 1.7, most: float = 5.0) -> Iterator[float]:
    """Seconds to wait between attempts, for ever: growing, bounded, and jittered by half, so that
    a thousand agents do not all come back in the same instant."""
    import random

    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(most, pause * factor)


def supervise() -> int:
    """The supervisor's main: the exit code of the job."""
    try:
        config = load_config()
    except Broken as error:
        note(str(error), Ring())
        return EXIT_BROKEN
    if sys.version_info < OLDEST_PYTHON:
        supervisor = Supervisor(config)
        reason = "%s is too old: Dask clusters need Python 3.8 or newer" % python_name()
        note(reason, supervisor.ring)
        supervisor.report(EXIT_BROKEN, reason)
        return EXIT_BROKEN
    return Supervisor(config).run()


# ---------------------------------------------------------------- child


def die_with(parent: int) -> None:
    """Have the kernel end this process when the supervisor is gone, even if that was SIGKILLed."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1: PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return  # not Linux: then the batch system has to clean up
    if os.getppid() != parent:  # it went before we asked
        os._exit(128 + signal.SIGKILL)


def version_of(package: str) -> Optional[str]:
    """The installed version of a package, without importing it; None when absent."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except Exception:  # broken metadata is as good as none
        return None


def versions() -> Dict[str, Optional[str]]:
    """What a client's own versions can be compared with."""
    names = ("dask", "distributed", "numpy", "pandas", "msgpack", "cloudpickle", "tornado", "bokeh")
    found = {name: version_of(name) for name in names}
    found["python"] = python_version()
    found["platform"] = sys.platform
    return found


def version_tuple(text: str) -> Tuple[int, ...]:
    """The leading numbers of a version: "2023.12.1+dirty" → (2023, 12, 1)."""
    numbers = []  # type: List[int]
    for part in text.split("."):
        digits = ""
        for char in part:
            if not char.isdigit():
                break
            digits += char
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def check_distributed(version: Optional[str]) -> None:
    """Raises Broken when distributed is absent or too old."""
    if version is None:
        text = "no distributed in %s: install dask and distributed there"
        raise Broken(text % python_name())
    if version_tuple(version) < OLDEST_DISTRIBUTED:
        text = "distributed %s in %s is too old: 2022.1 or newer is needed"
        raise Broken(text % (version, python_name()))


def import_distributed() -> Any:
    """The user's ``distributed``. Raises Broken with the exact reason."""
    try:
        import distributed
    except Exception as error:
        version = version_of("distributed")
        if version is not None or getattr(error, "name", "") != "distributed":
            check_distributed(version)
            text = "distributed %s in %s cannot be imported: %s"
            raise Broken(text % (version, python_name(), describe(error))) from error
        check_distributed(None)
    check_distributed(str(getattr(distributed, "__version__", "0")))
    return distributed


def describe(error: BaseException) -> str:
    """An exception's words, and its root cause's when that says more."""
    root, text = error, "%s: %s" % (type(error).__name__, error)
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if root is not error and str(root) and str(root) not in text:
        text += " (%s: %s)" % (type(root).__name__, root)
    return " ".join(text.split())[:2000]


def write_private(name: str, text: str) -> str:
    """Write a file that only this user can read into the job's directory; its path."""
    path = here(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(path, flags, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def security(config: Message) -> Any:
    """TLS for every link in the cluster: one certificate, trusted by itself alone."""
    from distributed.security import Security

    make = Security  # type: Any
    cert = write_private("tls.crt", config["tls_cert"])
    key = write_private("tls.key", config["tls_key"])
    sides = ("scheduler", "worker", "client")
    keywords = {"tls_%s_cert" % side: cert for side in sides}
    keywords.update({"tls_%s_key" % side: key for side in sides})
    return make(tls_ca_file=cert, require_encryption=True, **keywords)


def set_dask_config() -> None:
    """Settings of Dask that are ours to decide; all others stay the user's."""
    import dask

    dask.config.set(
        {
            # The server ends idle clusters: it knows queues and clients, and tells the reason.
            "distributed.scheduler.idle-timeout": None,
            "distributed.scheduler.no-workers-timeout": None,
            "temporary-directory": here(),
        }
    )


def address_towards(servers: Sequence[str]) -> str:
    """The local address that reaches the first server that has one: others on that side of the
    network reach us by it, and the server sees our messages come from it."""
    import socket
    from urllib.parse import urlsplit

    for server in servers:
        parts = urlsplit(server)
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
            with socket.socket(found[0][0], socket.SOCK_DGRAM) as probe:
                probe.connect(found[0][4])  # sends nothing, but chooses the route
                return str(probe.getsockname()[0])
        except (OSError, ValueError):
            continue
    raise Failed("no address of this host leads to a server: %s" % ", ".join(servers))


def bracketed(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return "[%s]" % host if ":" in host and not host.startswith("[") else host


def child_main(parent: int, reason_fd: int) -> NoReturn:
    """The child's main. Leaves by ``os._exit``: no thread of the user's may hold us back."""
    die_with(parent)
    reason, code = "", 1
    try:
        config = load_config()
        import_distributed()
        set_dask_config()
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        main = run_scheduler if config["role"] == "scheduler" else run_worker
        code = loop.run_until_complete(main(config))
    except Broken as error:
        reason, code = str(error), EXIT_BROKEN
    except Failed as error:
        reason = str(error)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        reason = describe(error)
    write_all(reason_fd, reason.encode("utf-8", "replace")[:4096])
    exit_now(code)


def exit_now(code: int) -> NoReturn:
    """End this process for certain: clean up, but let no thread of the user's hold us back."""
    import atexit

    last = threading.Timer(CLOSE_TIME, os._exit, (code,))
    last.daemon = True
    last.start()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # else multiprocessing complains about what it still holds
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def logger() -> Any:
    """Our lines in the output, in the shape of distributed's own."""
    import logging

    log = logging.getLogger("penstock")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s")
        )
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    return log


def on_termination(callback: Callable[[str], None]) -> None:
    """Call back, inside the running event loop, when the job is told to end."""
    import asyncio

    loop = asyncio.get_event_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        text = "the job was told to end (%s)" % number.name
        loop.add_signal_handler(number, callback, text)


async def bounded(awaitable: Any, seconds: float, what: str) -> None:
    """Await within bounds; a failure is logged, since we are leaving anyway."""
    import asyncio

    try:
        await asyncio.wait_for(awaitable, seconds)
    except Exception as error:
        logger().warning("%s: %s", what, describe(error))


# ---------------------------------------------------------------- rules (pure)


class Bounds(NamedTuple):
    """An ``adapt`` message that makes sense."""

    active: bool
    minimum: int
    maximum: Optional[int]

    def clamp(self, count: int) -> int:
        """``count`` within the bounds."""
        count = max(self.minimum, count)
        return count if self.maximum is None else min(self.maximum, count)


def is_count(value: object) -> bool:
    """True for an integer from 0 on (a bool is none)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def parse_adapt(message: object) -> Optional[Bounds]:
    """The bounds that an ``adapt`` message sets, None for one that makes no sense."""
    if not isinstance(message, dict) or not isinstance(message.get("active"), bool):
        return None
    minimum = message.get("minimum")
    maximum = message.get("maximum")
    minimum = 0 if minimum is None else minimum
    if not is_count(minimum) or not (maximum is None or is_count(maximum)):
        return None
    return Bounds(message["active"], minimum, maximum)


class Retire(NamedTuple):
    """A ``retire`` message that makes sense."""

    id: object
    wanted: int
    names: Optional[FrozenSet[str]]


def parse_retire(message: Message) -> Optional[Retire]:
    """The request in a ``retire`` message, None for one that makes no sense."""
    names = message.get("names")
    if not isinstance(message.get("id"), (int, str)) or not is_count(message.get("count")):
        return None
    if names is not None and not isinstance(names, list):
        return None
    wanted = None if names is None else frozenset(str(name) for name in names)
    return Retire(message["id"], message["count"], wanted)


def choose(order: Iterable[Tuple[str, str]], request: Retire, taken: Set[str]) -> Dict[str, str]:
    """Which workers to retire, {address: name}: the first of ``order`` that are candidates and
    that no other request has taken."""
    chosen = {}  # type: Dict[str, str]
    for address, name in order:
        if len(chosen) >= request.wanted:
            break
        if address not in taken and (request.names is None or name in request.names):
            chosen[address] = name
    return chosen


class Hysteresis:
    """Follows a wish up at once, and down only to the highest of the last ``samples`` wishes, so
    that a pause between two stages of a computation gives no worker away."""

    def __init__(self, current: int, samples: int = 6) -> None:
        self.current = current
        self.recent = deque(maxlen=samples)  # type: deque[int]

    def update(self, wanted: int) -> int:
        """Take one more sample; the count to have now."""
        self.recent.append(wanted)
        if wanted > self.current:
            self.current = wanted
        elif len(self.recent) == self.recent.maxlen:
            self.current = min(self.current, max(self.recent))
        return self.current


class IdleClock:
    """Seconds without activity.

    Activity is work at hand (also work that no worker can take yet), any change of a task's
    state since the last look, and a client that connects: who has just come has not had the time
    to submit anything. Workers that come and go are none, or a flapping one would keep an
    abandoned cluster alive.
    """

    def __init__(self, now: float) -> None:
        self.since = now
        self.seen = None  # type: object

    def update(self, now: float, busy: bool, counters: object) -> float:
        """Take one look: ``counters`` is anything that differs when there was activity."""
        if busy or counters != self.seen:
            self.since = now
            self.seen = counters
        return now - self.since


def fit(names: Iterable[str], budget: int = NAMES_BUDGET) -> List[str]:
    """As many names as fit into ``budget`` bytes of JSON; the rest goes with the next message."""
    fitting = []  # type: List[str]
    for name in sorted(names):
        budget -= len(json.dumps(name)) + 2
        if budget < 0:
            break
        fitting.append(name)
    return fitting


def number(value: object) -> float:
    """A finite number, or 0.0: metrics come from workers, which may send anything."""
    if isinstance(value, (int, float)) and value == value and abs(value) < 1e300:
        return value
    return 0.0


# ---------------------------------------------------------------- channel


class Channel:
    """The WebSocket to a server: connects, says hello, reads, and connects again, for ever."""

    def __init__(
        self,
        config: Message,
        hello: Callable[[], Message],
        receive: Callable[[Message], None],
    ) -> None:
        self.config = config
        self.hello = hello
        self.receive = receive
        self.last_contact = time.monotonic()
        self.refused_since = None  # type: Optional[float]
        self.gone = False
        self.socket = None  # type: Any
        self.sending = None  # type: Any
        self.log = logger()

    @property
    def clear(self) -> bool:
        """True when connected and the last message has left for the network."""
        return self.socket is not None and (self.sending is None or self.sending.done())

    def send(self, message: Message) -> bool:
        """Queue a message; False when there is no connection now."""
        from tornado.websocket import WebSocketClosedError

        if self.socket is None:
            return False
        try:
            self.sending = self.socket.write_message(json.dumps(message))
        except WebSocketClosedError:
            return False
        self.sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())
        return True

    async def run(self) -> None:
        """Keep a connection to one of the servers until cancelled."""
        import asyncio

        pauses = backoff()
        while True:
            for server in self.config["servers"]:
                if await self.serve_one(str(server)):
                    pauses = backoff()
                    break
            await asyncio.sleep(next(pauses))

    async def serve_one(self, server: str) -> bool:
        """Hold one connection to its end; False when there never was one."""
        try:
            self.socket = await self.connect(server)
        except Exception as error:  # whatever a network, a proxy or a hostile answer brings
            self.note_refusal(getattr(error, "code", 0))
            self.log.info("no channel to %s: %s", server, describe(error))
            return False
        self.refused_since = None
        self.log.info("channel to %s is open", server)
        try:
            self.send(self.hello())
            await self.read()
        finally:
            code, reason = self.socket.close_code, self.socket.close_reason
            self.socket = self.sending = None
        self.log.info("channel to %s closed (%s %s)", server, code, reason or "")
        return True

    async def connect(self, server: str) -> Any:
        """Open the WebSocket; raises whatever goes wrong."""
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        path = "/api/v1/clusters/%s/channel" % self.config["cluster"]
        request = HTTPRequest(
            "ws" + server.rstrip("/")[4:] + path,  # http → ws, https → wss
            headers={"Authorization": "token " + self.config["token"]},
            ssl_options=ssl_context(self.config) if server.startswith("https:") else None,
            connect_timeout=20,
            request_timeout=30,
        )
        return await websocket_connect(request, ping_interval=20, max_message_size=MAX_FRAME)

    async def read(self) -> None:
        """Hand on every message that is an object, until the connection ends."""
        while True:
            self.last_contact = time.monotonic()
            text = await self.socket.read_message()
            if text is None:
                return
            try:
                message = json.loads(text)
                if isinstance(message, dict):
                    self.receive(message)
            except Exception as error:
                self.log.warning("a message that makes no sense: %s", describe(error))

    def note_refusal(self, code: int) -> None:
        """Remember for how long servers have answered that they do not know us."""
        self.gone = code == 410
        if code in (401, 403, 404):
            self.refused_since = self.refused_since or time.monotonic()

    def hopeless(self, now: float) -> str:
        """Why there is no point in waiting for a server any longer; "" while there is."""
        give_up = self.config["give_up"]
        if self.gone:
            return "the server says that this cluster is over"
        if self.socket is None and now - self.last_contact > give_up:
            return "no server for %.0f seconds" % give_up
        refused = self.refused_since
        if refused is not None and now - refused > min(give_up, REFUSED_TIME):
            return "the server has not known this cluster for %.0f seconds" % (now - refused)
        return ""


# ---------------------------------------------------------------- scheduler


TASK_STATES = {
    "processing": "processing",
    "queued": "queued",
    "no-worker": "unrunnable",
    "waiting": "waiting",
    "memory": "memory",
    "erred": "erred",
}


def task_counts(scheduler: Any) -> Dict[str, int]:
    """Tasks by state, from the counters that the scheduler keeps by prefix: no look at tasks."""
    counts = dict.fromkeys(TASK_STATES.values(), 0)
    for prefix in scheduler.task_prefixes.values():
        for state, count in prefix.states.items():
            if state in TASK_STATES:
                counts[TASK_STATES[state]] += count
    return counts


def is_busy(scheduler: Any) -> bool:
    """True while there is work at hand. Waiting tasks need no look: they wait for such work.

    ``queued`` came with distributed 2022.9, ``_active_graph_updates`` with 2025.
    """
    return bool(
        getattr(scheduler, "queued", ())
        or scheduler.unrunnable
        or getattr(scheduler, "_active_graph_updates", 0)
        or any(ws.processing for ws in scheduler.workers.values())
    )


def user_clients(scheduler: Any) -> List[str]:
    """Clients that stand for a user: neither the scheduler's own nor those inside of tasks."""
    return [
        key
        for key in scheduler.clients
        if key != "fire-and-forget" and not str(key).startswith("Client-worker-")
    ]


def make_plugin(changed: Callable[[], None], client_came: Callable[[], None]) -> Any:
    """A plugin of the scheduler that says when workers or clients come and go."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Watch(SchedulerPlugin):  # type: ignore[misc, unused-ignore]
        name = "penstock"

        def add_worker(self, *args: Any, **kwargs: Any) -> None:
            changed()

        def remove_worker(self, *args: Any, **kwargs: Any) -> None:
            changed()

        def add_client(self, *args: Any, **kwargs: Any) -> None:
            client_came()
            changed()

        def remove_client(self, *args: Any, **kwargs: Any) -> None:
            changed()

    return Watch()


async def attach_dashboard(scheduler: Any) -> None:
    """Add the Bokeh pages to the scheduler's HTTP server. The import takes as long as the rest of
    the start, so it happens in a thread while the scheduler already serves."""
    import asyncio
    import importlib

    loop = asyncio.get_event_loop()
    try:
        pages = await loop.run_in_executor(
            None, importlib.import_module, "distributed.dashboard.scheduler"
        )
        pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="/")
    except Exception as error:  # a Bokeh that does not fit must not cost the cluster
        logger().warning("no dashboard pages: %s", describe(error))


async def run_scheduler(config: Message) -> int:
    """A scheduler and its agent, from start to end; the exit code."""
    from distributed import Scheduler

    host = config["contact_host"] or address_towards(config["servers"])
    scheduler = await Scheduler(
        host=host,
        port=0,
        protocol="tls",
        security=security(config),
        dashboard=False,
        dashboard_address="%s:0" % bracketed(host),
    )
    return await SchedulerAgent(config, scheduler, host).run()


class SchedulerAgent:
    """Reports a scheduler to the server and does what the server says."""

    def __init__(self, config: Message, scheduler: Any, host: str) -> None:
        import asyncio

        import psutil

        self.config = config
        self.scheduler = scheduler
        self.host = host
        self.period = 5.0
        self.bounds = Bounds(False, 0, None)
        self.hysteresis = None  # type: Optional[Hysteresis]
        self.target = None  # type: Optional[int]
        self.idle = IdleClock(time.monotonic())
        self.idle_seconds = 0.0
        self.clients_seen = 0
        self.told = set()  # type: Set[str]
        self.retiring = set()  # type: Set[str]
        self.answers = OrderedDict()  # type: OrderedDict[Retire, Optional[Message]]
        self.tasks = set()  # type: Set[Any]
        self.process = psutil.Process()
        self.changed = asyncio.Event()
        self.ended = asyncio.get_event_loop().create_future()
        self.versions = versions()
        self.channel = Channel(config, self.hello, self.receive)
        self.log = logger()

    async def run(self) -> int:
        """Serve until the end, whoever wants it, and close everything."""
        on_termination(self.end)
        self.scheduler.add_plugin(make_plugin(self.changed.set, self.client_came))
        self.spawn(self.channel.run())
        self.spawn(self.tick_forever())
        self.spawn(self.report_forever())
        self.spawn(self.watch_scheduler())
        if self.has_dashboard:
            self.spawn(attach_dashboard(self.scheduler))
        elif self.config["dashboard"]:
            self.log.warning("no dashboard: there is no bokeh in %s", python_name())
        reason = await self.ended
        self.log.info("closing: %s", reason)
        self.channel.send({"op": "closing", "reason": reason})
        await bounded(self.scheduler.close(), CLOSE_TIME, "the scheduler did not close by itself")
        if self.channel.socket is not None:
            self.channel.socket.close()
        return 0

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine beside; the loop itself keeps only weak references."""
        import asyncio

        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def end(self, reason: str) -> None:
        """Begin to end; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def client_came(self) -> None:
        """Count connections, for the idle clock."""
        self.clients_seen += 1

    @property
    def has_dashboard(self) -> bool:
        """Whether the dashboard is wanted and can be had."""
        return bool(self.config["dashboard"]) and self.versions["bokeh"] is not None

    async def watch_scheduler(self) -> None:
        """Notice that the scheduler closed by itself (``client.shutdown()`` does that)."""
        await self.scheduler.finished()
        self.end("the scheduler was shut down by a client")

    # up

    def names(self) -> Set[str]:
        """The workers that the scheduler has now."""
        return {str(ws.name)[:200] for ws in self.scheduler.workers.values()}

    def hello(self) -> Message:
        """The first message on every connection; those that follow tell differences to it."""
        names = fit(self.names())
        self.told = set(names)
        self.changed.set()
        address = "http://%s:%d" % (bracketed(self.host), self.scheduler.http_server.port)
        return {
            "op": "hello",
            "protocol": PROTOCOL,
            "scheduler_address": self.scheduler.address,
            "dashboard_address": address if self.has_dashboard else None,
            "versions": self.versions,
            "workers": names,
        }

    def report(self) -> Message:
        """How things stand, and which workers came and went since the last report."""
        now = self.names()
        added, removed = fit(now - self.told), fit(self.told - now)
        self.told = (self.told | set(added)) - set(removed)
        states = list(self.scheduler.workers.values())
        return {
            "op": "report",
            "added": added,
            "removed": removed,
            "workers": len(states),
            "threads": sum(ws.nthreads for ws in states),
            "clients": len(user_clients(self.scheduler)),
            "tasks": task_counts(self.scheduler),
            "memory": int(sum(number(ws.metrics.get("memory")) for ws in states)),
            "memory_limit": int(sum(number(ws.memory_limit) for ws in states)),
            "cpu": round(sum(number(ws.metrics.get("cpu")) for ws in states), 1),
            "scheduler": {
                "cpu": self.process.cpu_percent(),
                "memory": self.process.memory_info().rss,
            },
            "idle": round(self.idle_seconds, 1),
            "target": self.target,
        }

    async def report_forever(self) -> None:
        """Report every period and soon after changes, never faster than the network takes it."""
        import asyncio

        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), self.period)
            self.changed.clear()
            if self.channel.clear:
                try:
                    self.channel.send(self.report())
                except Exception as error:
                    self.log.warning("no report this time: %s", describe(error))
            await asyncio.sleep(REPORT_GAP)

    async def tick_forever(self) -> None:
        """Once a second: the idle clock, the adaptive target, and whether to give up."""
        import asyncio

        while True:
            try:
                self.tick(time.monotonic())
            except Exception as error:
                self.log.warning("a look at the scheduler failed: %s", describe(error))
            await asyncio.sleep(1.0)

    def tick(self, now: float) -> None:
        """One look."""
        counters = (self.scheduler.transition_counter, self.clients_seen)
        self.idle_seconds = self.idle.update(now, is_busy(self.scheduler), counters)
        self.adapt()
        hopeless = self.channel.hopeless(now)
        if hopeless:
            self.end(hopeless)

    def adapt(self) -> None:
        """Sample the scheduler's own wish for workers; a changed target is reported at once."""
        target = None
        if self.hysteresis is not None:
            wanted = self.bounds.clamp(int(self.scheduler.adaptive_target()))
            target = self.bounds.clamp(self.hysteresis.update(wanted))
        if target != self.target:
            self.target = target
            self.changed.set()

    # down

    def receive(self, message: Message) -> None:
        """Obey one message of the server; unknown ones are for newer agents."""
        op = message.get("op")
        if op == "welcome":
            period = number(message.get("period"))
            self.period = min(300.0, max(REPORT_GAP, period)) if period > 0 else 5.0
            self.set_bounds(parse_adapt(message.get("adapt")))
        elif op == "adapt":
            self.set_bounds(parse_adapt(message))
        elif op == "retire":
            self.answer_retire(parse_retire(message))
        elif op == "close":
            self.end(str(message.get("reason") or "the server asked for it")[:1000])

    def set_bounds(self, bounds: Optional[Bounds]) -> None:
        """Take new bounds; a wish starts from the workers that are there."""
        if bounds is None:
            return
        if not bounds.active:
            self.hysteresis = None
        elif self.hysteresis is None:
            self.hysteresis = Hysteresis(len(self.scheduler.workers))
        self.bounds = bounds
        self.adapt()

    def answer_retire(self, request: Optional[Retire]) -> None:
        """Retire workers, once for each request however often it is sent."""
        if request is None:
            return
        if request not in self.answers:
            self.answers[request] = None
            while len(self.answers) > 256:
                self.answers.popitem(last=False)
            self.spawn(self.retire(request))
            return
        answer = self.answers[request]
        if answer is not None:  # else it is under way and will be answered
            self.channel.send(answer)

    async def retire(self, request: Retire) -> None:
        """Move the data of some workers away, close them, and say which."""
        error = None
        done = {}  # type: Dict[str, str]
        chosen = choose(self.retire_order(), request, self.retiring)
        self.retiring.update(chosen)
        try:
            if chosen:
                done = await self.retire_workers(chosen)
            if len(done) < len(chosen):
                kept = ", ".join(sorted(set(chosen.values()) - set(done.values())))
                error = "no other worker could take the data of %s" % kept
        except Exception as problem:
            self.log.exception("retiring %s failed", ", ".join(chosen.values()))
            error = describe(problem)
        finally:
            self.retiring.difference_update(chosen)
        answer = {"op": "retired", "id": request.id, "names": sorted(done.values()), "error": error}
        self.answers[request] = answer
        self.channel.send(answer)

    async def retire_workers(self, chosen: Dict[str, str]) -> Dict[str, str]:
        """Retire by address; those that went, {address: name}."""
        result = await self.scheduler.retire_workers(
            workers=list(chosen), close_workers=True, remove=True
        )
        gone = {a: n for a, n in chosen.items() if a in result or a not in self.scheduler.workers}
        left = [address for address in chosen if address not in gone]
        if left and not set(self.scheduler.workers) - self.retiring:
            # All workers shall go, so nobody was left to take the data: that was the wish.
            for address in left:
                self.scheduler.worker_send(address, {"op": "close"})
                gone[address] = chosen[address]
        return gone

    def retire_order(self) -> List[Tuple[str, str]]:
        """(address, name) of all workers, those that cost least to lose first. Those with tasks
        that must not move (``worker_client``) come last: the scheduler itself never offers them."""
        workers = self.scheduler.workers
        order = [a for a in self.scheduler.workers_to_close(n=len(workers)) if a in workers]
        offered = set(order)
        order += [address for address in workers if address not in offered]
        return [(address, str(workers[address].name)[:200]) for address in order]


# ---------------------------------------------------------------- worker


def make_nanny(failures: List[BaseException]) -> Any:
    """A Nanny that remembers why its worker process could not be (re)started: Dask only logs it."""
    from distributed import Nanny

    class ReportingNanny(Nanny):  # type: ignore[misc, unused-ignore]
        async def instantiate(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super().instantiate(*args, **kwargs)
            except Exception as error:
                failures.append(error)
                raise

    return ReportingNanny


def worker_options(config: Message) -> Message:
    """Keyword arguments for Nanny and Worker alike."""
    options = {
        "scheduler_ip": config["scheduler_address"],
        "name": job_name(config, job_index()),
        "nthreads": config["nthreads"],
        "memory_limit": config["memory"],
        "security": security(config),
        "local_directory": here(),
        "death_timeout": min(NANNY_START if config["nanny"] else WORKER_START, config["give_up"]),
        "host": config["contact_host"],
    }  # type: Message
    if config["lifetime"]:
        options["lifetime"] = "%f s" % config["lifetime"]
        options["lifetime_stagger"] = "%f s" % config["lifetime_stagger"]
        options["lifetime_restart"] = False
    if version_tuple(version_of("distributed") or "") < (2022, 6):
        options["reconnect"] = False  # later ones never do: a scheduler does not come back
    return options


async def run_worker(config: Message) -> int:
    """A worker (or the nanny of one), from start to end; the exit code. Raises Failed."""
    import asyncio

    from distributed import Worker

    failures = []  # type: List[BaseException]
    told = asyncio.get_event_loop().create_future()
    on_termination(lambda reason: None if told.done() else told.set_result(reason))
    server = (make_nanny(failures) if config["nanny"] else Worker)(**worker_options(config))
    start = asyncio.ensure_future(server.start())
    await asyncio.wait({start, told}, return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        check_start(config, start, server, failures)
        over = asyncio.ensure_future(server.finished())
        await asyncio.wait({over, told}, return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        logger().info("closing: %s", told.result())
        await leave(server, start)
    elif failures:
        raise Failed("the worker's process could not be restarted: %s" % describe(failures[-1]))
    else:
        logger().info("the scheduler closed this worker, or is gone")
    return 0


def check_start(config: Message, start: Any, server: Any, failures: List[BaseException]) -> None:
    """Raises Failed when the worker did not come up."""
    error = start.exception()
    if error is None and server.status.name in ("running", "closing_gracefully"):
        return
    cause = failures[-1] if failures else error
    words = describe(cause) if cause is not None else "it closed while starting"
    place = config["scheduler_address"]
    raise Failed("the worker could not join the scheduler at %s: %s" % (place, words))


async def leave(server: Any, start: Any) -> None:
    """End a worker that was told to: hand its data over first, while there is somebody to take it,
    and let its running tasks start again elsewhere without counting this as their fault."""
    if start.done() and not start.cancelled() and start.exception() is None:
        address = getattr(server, "worker_address", None) or server.address
        if hasattr(server, "close_gracefully") and hasattr(server, "process"):
            server.close_gracefully()  # the nanny's: do not restart the worker
        away = server.scheduler.retire_workers(workers=[address], close_workers=False, remove=True)
        await bounded(away, CLOSE_TIME / 2, "could not hand the data over")
    await bounded(server.close(), CLOSE_TIME, "the worker did not close by itself")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child_main(int(sys.argv[2]), int(sys.argv[3]))
    sys.exit(supervise())
