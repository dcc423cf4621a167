"""What all sections have in common, and small types of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names of profiles, groups and backends: they stand in logs, metrics and job names."""


class Section(BaseModel):
    """A table of the configuration: immutable, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{value[:40]!a} cannot be a name; use up to 64 of letters, digits, '_', '.', '-'"
        )
    return value


def _absolute(value: Path) -> Path:
    value = value.expanduser()
    if not value.is_absolute():
        raise ValueError(f"must be an absolute path, not {str(value)[:80]!a}")
    return value


def _variables(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not name or "=" in name or "\0" in name + text:
            raise ValueError(f"{name[:40]!a} cannot be a variable's name, or its value holds a NUL")
    return value


def split_address(value: str) -> tuple[str, int]:
    """(host, port) of ``host:port``, ``[::1]:8000`` or ``:8000`` (every address). Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError('must be "host:port", e.g. "127.0.0.1:8000" or "[::1]:8000"')
    return host or "0.0.0.0", int(port)  # noqa: S104 (asked for)


def _address(value: str) -> str:
    split_address(value)
    return value


def split_ports(value: str) -> tuple[int, int]:
    """(first, last) of ``first-last``. Raises ValueError, also for a range of one."""
    match = re.fullmatch(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", value.strip())
    if match is None or not 1024 <= int(match[1]) < int(match[2]) <= 65535:
        raise ValueError('must be "first-last" within 1024-65535, e.g. "40000-40099"')
    return int(match[1]), int(match[2])


def _ports(value: str) -> str:
    return "{}-{}".format(*split_ports(value))


Name = Annotated[str, AfterValidator(_name)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Variables = Annotated[dict[str, str], AfterValidator(_variables)]
Address = Annotated[str, AfterValidator(_address)]
Ports = Annotated[str, AfterValidator(_ports)]
