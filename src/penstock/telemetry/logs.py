"""Structured logs, for people or as JSON, one line each whatever a user sent.

Values come from users (names, reasons, a scheduler's last words), so every control character is
escaped: nothing that is logged can forge a line or steer a terminal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

Format = Literal["human", "json"]

_SECRET_WORDS = ("password", "token", "secret", "tls_key", "cookie", "authorization", "ticket")
MASK = "••••"


def configure(level: str = "info", form: Format = "human", stream: TextIO | None = None) -> None:
    """Send all logs of this process to ``stream`` (standard error) from ``level`` up."""
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        mask_secrets,
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else render_line
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    for noisy in ("aiohttp.access", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(max(_number(level), logging.WARNING))


def mask_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace values whose key says that they are secret; a net below careful callers."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = MASK
    return event


def render_line(_logger: object, _method: str, event: Mapping[str, Any]) -> str:
    """``2026-05-04T10:00:00Z info  text key=value …`` with a traceback on lines of its own."""
    rest = dict(event)
    head = f"{rest.pop('timestamp', '')} {rest.pop('level', 'info'):<8}"
    text = escape(str(rest.pop("event", "")))
    trace = rest.pop("exception", None)
    rest.pop("logger", None)
    pairs = " ".join(f"{key}={_value(value)}" for key, value in rest.items())
    line = f"{head} {text}" + (f"  {pairs}" if pairs else "")
    if trace:
        line += "".join("\n    " + escape(part) for part in str(trace).splitlines())
    return line


def escape(text: str) -> str:
    """Control characters as escapes; everything printable as it is."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _value(value: object) -> str:
    text = escape(str(value))
    return f'"{text}"' if not text or " " in text or "=" in text else text


def _number(level: str) -> int:
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        raise ValueError(f"{level!r} is not a log level; use debug, info, warning or error")
    return number
