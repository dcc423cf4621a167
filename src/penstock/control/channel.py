"""What an agent says, read with distrust.

Whoever owns a cluster owns its agent: any JSON may arrive here. Each message becomes a typed value
or raises Invalid with a sentence; sizes and ranges are bounded, unknown keys are ignored (see
``penstock.model.wire``).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from penstock.control.mismatch import Mismatch, parse_mismatch
from penstock.model.errors import Invalid
from penstock.model.ids import parse_worker_name
from penstock.model.wire import MAX_TAIL, PROTOCOL

MAX_NAMES = 100_000
MAX_TEXT = 2000
_MOST = 1e18

Worker = tuple[int, int]
"""(sequence, index)"""


@dataclass(frozen=True, slots=True)
class Hello:
    scheduler: str
    dashboard: str
    versions: Mapping[str, str]
    workers: frozenset[Worker]
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    added: tuple[Worker, ...]
    removed: tuple[Worker, ...]
    workers: int
    threads: int
    clients: int
    tasks: Mapping[str, int]
    memory: int
    memory_limit: int
    cpu: float
    scheduler_cpu: float
    scheduler_memory: int
    idle: float
    target: int | None
    mismatch: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Retired:
    id: int
    workers: frozenset[Worker]
    error: str


@dataclass(frozen=True, slots=True)
class ExitReport:
    """What a dying process's agent says. ``last_words``: nothing but the end of its output, since
    it was told to end."""

    sequence: int
    index: int
    scheduler: bool
    code: int | None
    reason: str
    tail: str
    last_words: bool = False


def parse_hello(message: Mapping[str, Any]) -> Hello:
    """Raises Invalid, also for an agent of a protocol that we do not speak."""
    protocol = message.get("protocol")
    if protocol != PROTOCOL:
        raise Invalid(f"protocol must be {PROTOCOL}, not {_shown(protocol)}.")
    scheduler = _text(message, "scheduler_address", 300)
    parse_address(scheduler)
    versions = message.get("versions") or {}
    texts = isinstance(versions, Mapping) and all(isinstance(v, str) for v in versions.values())
    if not texts or len(versions) > 50:
        raise Invalid("versions must be an object of at most 50 texts.")
    return Hello(
        scheduler=scheduler,
        dashboard=_text(message, "dashboard_address", 300),
        versions={printable(k[:50]): printable(v[:50]) for k, v in versions.items()},
        workers=frozenset(_names(message, "workers")),
        sequence=None if message.get("sequence") is None else _count(message, "sequence"),
    )


def parse_report(message: Mapping[str, Any]) -> Report:
    tasks = message.get("tasks") or {}
    scheduler = message.get("scheduler") or {}
    if not isinstance(tasks, Mapping) or not isinstance(scheduler, Mapping) or len(tasks) > 50:
        raise Invalid("tasks and scheduler must be objects.")
    tasks = {printable(str(state)[:50]): number for state, number in tasks.items()}
    target = message.get("target")
    return Report(
        added=_names(message, "added"),
        removed=_names(message, "removed"),
        workers=_count(message, "workers"),
        threads=_count(message, "threads"),
        clients=_count(message, "clients"),
        tasks={state: _count(tasks, state) for state in tasks},
        memory=_count(message, "memory"),
        memory_limit=_count(message, "memory_limit"),
        cpu=_number(message, "cpu"),
        scheduler_cpu=_number(scheduler, "cpu"),
        scheduler_memory=_count(scheduler, "memory"),
        idle=_number(message, "idle"),
        target=None if target is None else _count(message, "target"),
        mismatch=parse_mismatch(message.get("mismatch")),
    )


def parse_retired(message: Mapping[str, Any]) -> Retired:
    return Retired(
        id=_count(message, "id"),
        workers=frozenset(_names(message, "names")),
        error=text(message, "error"),
    )


def parse_exit(report: Mapping[str, Any]) -> ExitReport:
    job = report.get("job")
    name = job if isinstance(job, str) else ""
    scheduler = name.startswith("s")
    parsed = parse_worker_name("w" + name[1:] if scheduler else name)
    if parsed is None:
        raise Invalid(f"job must be a name like s0-0 or w3-4, not {_shown(job)}.")
    code = report.get("code")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
        raise Invalid(f"code must be an integer or null, not {_shown(code)}.")
    if code is not None and not -1000 < code < 1000:
        raise Invalid(f"code must be an exit code, not {_shown(code)}.")
    return ExitReport(
        sequence=parsed[0],
        index=parsed[1],
        scheduler=scheduler,
        code=code,
        reason=text(report, "reason"),
        tail=printable(_text(report, "tail", None)[-MAX_TAIL:], newlines=True),
        last_words=report.get("last_words") is True,
    )


def text(message: Mapping[str, Any], key: str) -> str:
    """What is said under a key, "" when nothing is: short, and safe to print. Raises Invalid."""
    return printable(_text(message, key, None)[:MAX_TEXT])


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``tls://10.0.0.5:8786`` or ``tls://[::1]:8786``. Raises Invalid."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise Invalid(f"scheduler_address must be like tls://10.0.0.5:8786, not {_shown(address)}.")
    return host, port


def printable(text: str, *, newlines: bool = False) -> str:
    """Text that can stand in a log line or a terminal: no control characters."""
    kept = "\n\t" if newlines else ""
    return "".join(c if c.isprintable() or c in kept else " " for c in text)


def _names(message: Mapping[str, Any], key: str) -> tuple[Worker, ...]:
    """The workers of ours among the names; external workers have names of their own."""
    names = message.get(key)
    if not names:
        return ()
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise Invalid(f"{key} must be a list of at most {MAX_NAMES} names.")
    parsed = (parse_worker_name(name) for name in names if isinstance(name, str))
    return tuple(worker for worker in parsed if worker is not None)


def _number(message: Mapping[str, Any], key: str) -> float:
    value = message.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid(f"{key} must be a number, not {_shown(value)}.")
    if not 0 <= value <= _MOST:  # never true of NaN, and no conversion of huge integers
        raise Invalid(f"{key} must not be negative or beyond {_MOST:g}, not {_shown(value)}.")
    return value


def _count(message: Mapping[str, Any], key: str) -> int:
    return int(_number(message, key))


def _text(message: Mapping[str, Any], key: str, limit: int | None) -> str:
    value = message.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{key} must be a text, not {_shown(value)}.")
    if limit is not None and len(value) > limit:
        raise Invalid(f"{key} must have at most {limit} characters.")
    return value


def _shown(value: object) -> str:
    """A value as an error may show it: short, and safe to print."""
    shown = reprlib.repr(value)  # nested ever so deep, it is cut
    return printable(shown[:80]) + ("…" if len(shown) > 80 else "")
