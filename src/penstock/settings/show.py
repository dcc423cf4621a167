"""The whole configuration as TOML, defaults included and secrets masked. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.settings.root import Settings

MASK = "********"

_SECRET = re.compile(r"secret|passw|token|credential|(^|_)key$", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def show(settings: Settings) -> str:
    """TOML that reads back as the same settings, but for what is secret.

    Masked are passwords, all arguments of a site's own authenticator, and variables and extras
    whose names look like a secret's.
    """
    data = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    data["auth"] = {
        key: _masked(value) if key == "kwargs" else MASK if key == "password" else value
        for key, value in data["auth"].items()
    }
    for profile in data["profiles"].values():
        for group in (profile["scheduler"], *profile["workers"].values()):
            for table in ("env", "extras"):
                group[table] = {
                    key: MASK if _SECRET.search(key) else value
                    for key, value in group[table].items()
                }
    return "\n".join(_table((), data)).strip() + "\n"


def _masked(value: Mapping[str, object]) -> dict[str, object]:
    return dict.fromkeys(value, MASK)


def _table(path: tuple[str, ...], table: Mapping[str, Any], *, item: bool = False) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not _is_table(value)}
    if path and (plain or item or not table):
        yield ""
        name = ".".join(map(_key, path))
        yield f"[[{name}]]" if item else f"[{name}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table((*path, key), value)
        elif _is_table(value):
            for row in value:
                yield from _table((*path, key), row, item=True)


def _is_table(value: Any) -> bool:
    rows = isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
    return isinstance(value, dict) or rows


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    """A value within a line; nothing stands for null, which TOML does not have."""
    if isinstance(value, dict):
        inside = (f"{_key(key)} = {_value(v)}" for key, v in value.items() if v is not None)
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value if item is not None)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return json.dumps(value)
