"""The Dask process, before it is one: is this environment fit, and how does it talk to others?

Most imports are inside of functions: the supervisor runs the same file and must stay small, and
what is wrong with the user's packages has to be said by us, not by a traceback.
"""

import contextlib
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

from penstock.agent.base import Broken, Failed, Message, here, python_name, python_version

OLDEST_DISTRIBUTED = (2022, 1)

FAILURES = "distributed.scheduler.allowed-failures"
DASK_FAILURES = 3
FAILURES_SET = "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"

CLOSE_TIME = 10.0  # seconds for a scheduler or worker to close by itself


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


def versions() -> Dict[str, str]:
    """What a client's own versions can be compared with; what is not installed is left out."""
    names = ("dask", "distributed", "numpy", "pandas", "msgpack", "cloudpickle", "tornado", "bokeh")
    found = {"python": python_version(), "platform": sys.platform}
    for name in names:
        version = version_of(name)
        if version is not None:
            found[name] = version
    return found


def version_tuple(text: str) -> Tuple[int, ...]:
    """The leading numbers of a version: "2023.12.1+dirty" → (2023, 12, 1)."""
    numbers: List[int] = []
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


def foreign() -> str:
    """What may stand before an environment's own packages: often a notebook's, of another one."""
    path = os.environ.get("PYTHONPATH", "")
    return " (PYTHONPATH is set, whose packages come first: %s)" % path[:500] if path else ""


def import_distributed() -> Any:
    """The user's ``distributed``. Raises Broken with the exact reason."""
    try:
        import distributed
    except Exception as error:
        version = version_of("distributed")
        if version is not None or getattr(error, "name", "") != "distributed":
            check_distributed(version)
            text = "distributed %s in %s cannot be imported: %s%s"
            raise Broken(text % (version, python_name(), describe(error), foreign())) from error
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

    make: Any = Security
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
    # Dask gives a task up when the third worker dies under it. Where batch systems preempt and time
    # runs out that says little of the task; what users set themselves stays.
    if dask.config.get(FAILURES, DASK_FAILURES) == DASK_FAILURES and not os.environ.get(
        FAILURES_SET
    ):
        dask.config.set({FAILURES: 10})


def address_towards(servers: Sequence[str]) -> str:
    """The local address that reaches the first server that has one: others on that side of the
    network reach us by it, and the server sees our messages come from it."""
    import socket
    from urllib.parse import urlsplit

    for server in servers:
        try:
            parts = urlsplit(server)
            host, port = parts.hostname or "", parts.port or 443
            routes = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM) if host else []
        except (OSError, ValueError):
            continue
        for family, kind, _, _, address in routes:
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(address)  # sends nothing, but chooses the route
                return str(probe.getsockname()[0])
    raise Failed("no address of this host leads to a server: %s" % ", ".join(servers))


def bracketed(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return "[%s]" % host if ":" in host and not host.startswith("[") else host


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
