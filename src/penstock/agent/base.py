"""What both processes of the agent share: the job's configuration, and a few tools.

The configuration's keys are defined in ``penstock.model.wire``, which cannot be imported in a job.
"""

import json
import os
import sys
from typing import Any, Dict, Iterator, Optional

PROTOCOL = 1
MAX_FRAME = 1 << 20
MAX_TAIL = 16 * 1024
CONFIG_FILE = "penstock.json"

EXIT_BROKEN = 78  # EX_CONFIG of sysexits.h: nothing wrong with the job, but with what it runs in

Message = Dict[str, Any]


class Broken(Exception):
    """What runs this file cannot run Dask; the text says what to do, in one sentence."""


class Failed(Exception):
    """The Dask process could not do its work; the text is for the user."""


REQUIRED = {
    "role": str,
    "cluster": str,
    "sequence": int,
    "servers": list,
    "token": str,
    "tls_cert": str,
    "tls_key": str,
}

DEFAULTS: Message = {
    "ca": None,
    "contact_host": None,
    "listen_host": None,
    "scheduler_sni": None,
    "ports": None,
    "resources": None,
    "dashboard": True,
    "nthreads": 1,
    "memory": 0,
    "nanny": True,
    "lifetime": None,
    "lifetime_stagger": 0,
    "give_up": 86400.0,
    "activate": None,
}


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


def python_version() -> str:
    """ "3.11.2" """
    return "%d.%d.%d" % tuple(sys.version_info[:3])


def python_name() -> str:
    """The interpreter as people find it again: path and version."""
    return "%s (Python %s)" % (sys.executable, python_version())


def write_all(fd: int, data: bytes) -> None:
    """Write everything, or silently nothing more: a full disk must not stop the computation."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def backoff(first: float = 0.2, factor: float = 1.7, most: float = 5.0) -> Iterator[float]:
    """Seconds to wait between attempts, for ever: growing, bounded, and jittered by half, so that
    a thousand agents do not all come back in the same instant."""
    import random

    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(most, pause * factor)


def ssl_context(config: Message) -> Any:
    """How servers are verified: the system's authorities, and the configured one."""
    import ssl

    context = ssl.create_default_context()
    if config["ca"]:
        context.load_verify_locations(cadata=config["ca"])
    return context
