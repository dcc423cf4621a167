"""``docs/admin/settings.md``, made from the models, so that no setting is without a word.

python -m penstock.settings.reference > docs/admin/settings.md
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock.settings import schema
from penstock.settings.root import Settings
from penstock.settings.units import Duration, Size, show_duration, show_size

_HEAD = """\
# Settings

<!-- Made by `python -m penstock.settings.reference`; a test compares. -->

The configuration is one TOML file: `penstock serve --config penstock.toml`. Everything has a
default. `penstock config check --config penstock.toml` tells every mistake at once, and
`penstock config show` prints what is in force, secrets masked.

Every key can also be set by a variable `PENSTOCK_<SECTION>__<KEY>`, which wins over the file:
`PENSTOCK_SERVER__LOG_LEVEL=debug`, `PENSTOCK_PROFILES__GPU__LIMITS__IDLE_TIMEOUT=1h`,
`PENSTOCK_LISTEN=127.0.0.1:8000`. Arrays and tables are written as in TOML:
`PENSTOCK_AUTH__ADMINS='["anna"]'`.

A *duration* is a number of seconds or text such as `"30 min"`, `"12h"`, `"1h 30m"`. A *size* is text
such as `"4 GB"` (10⁹ bytes each) or `"4GiB"` (2³⁰), or a number of bytes.
"""

_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def reference() -> str:
    """The whole document."""
    parts = [_HEAD]
    for path, model in schema.sections(Settings, ""):
        if path:
            parts.append("\n".join(_section(path, model)) + "\n")
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Paths of keys and sections without a description."""
    found = []
    for path, model in schema.sections(Settings, ""):
        if not model.__doc__:
            found.append(path)
        for key, field in schema.fields(model).items():
            if not field.description and not _has_section(field):
                found.append(f"{path}.{key}")
    return found


def _section(path: str, model: type[BaseModel]) -> Iterator[str]:
    kind = model.model_fields.get("type")
    of_kind = f", `type = {_toml(typing.get_args(kind.annotation)[0])}`" if kind else ""
    brackets = f"[[{path}]]" if path == "listen" else f"[{path}]"
    yield f"## `{brackets}`{of_kind}"
    yield ""
    yield " ".join((model.__doc__ or "").split())
    yield ""
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {_cell(field.description or '')} |"
        for key, field in schema.fields(model).items()
        if not _has_section(field) and key != "type"
    ]
    if rows:
        yield "| key | value | default | |"
        yield "|---|---|---|---|"
        yield from rows


def _has_section(field: FieldInfo) -> bool:
    """True for a field that is a section of its own, with its own words."""
    below = schema.inner(field.annotation)
    plain = field.annotation if below is None else below
    if field.description:
        return False
    return schema.is_model(schema.bare(plain)) or bool(schema.members(plain))


def _type(field: FieldInfo) -> str:
    if _validated_as(field, Duration):
        return "duration"
    if _validated_as(field, Size):
        return "size"
    return _kind(field.annotation)


def _validated_as(field: FieldInfo, unit: Any) -> bool:
    """True for fields of an annotated type, also ``| None``; pydantic takes the outermost apart."""
    marks = typing.get_args(unit)[1:]
    if any(mark in field.metadata for mark in marks):
        return True
    return unit in typing.get_args(field.annotation)


def _kind(place: Any) -> str:
    place = schema.bare(place)
    origin: Any = typing.get_origin(place)
    if origin is Literal:
        return " or ".join(f"`{_toml(choice)}`" for choice in typing.get_args(place))
    if origin in (Union, types.UnionType) or schema.is_model(place):
        return "table"
    if origin is dict:
        return f"table of {_kind(typing.get_args(place)[1])}"
    if origin is tuple:
        return f"array of {_kind(typing.get_args(place)[0])}"
    return _KINDS.get(place, "anything" if place is Any else "text")


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return str(extra["default_text"])
    value = field.get_default(call_default_factory=True) if not field.is_required() else None
    if field.is_required() or value is PydanticUndefined:
        return "required"
    if value is None:
        return ""
    if _validated_as(field, Duration):
        return f'`"{show_duration(value)}"`'
    if _validated_as(field, Size):
        return f'`"{show_size(value)}"`'
    if isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
        return ", ".join(f"one, `{name}`" for name in value)
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "{}" if value == {} else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
