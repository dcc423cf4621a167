"""Pydantic's errors in the words of somebody who writes a configuration. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from penstock.settings import schema
from penstock.settings.root import Settings

KeyPath = tuple[str | int, ...]

_SECRET = ("password", "kwargs", "secret", "token")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, and what is wrong with it.

    ``prune`` is what to leave out to go on; ``lack``: something is not there, which may be because
    it was left out.
    """

    path: KeyPath
    text: str
    prune: KeyPath
    lack: bool = False


def show_path(path: KeyPath) -> str:
    """``profiles.gpu.workers.default.cores``, ``listen[1].address``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def explain(error: ValidationError) -> list[Problem]:
    """Every mistake that pydantic found."""
    return [_explain(found) for found in error.errors(include_url=False)]


def suggest(word: str, known: Sequence[str]) -> str:
    """`` (did you mean …?)``, or what is known when nothing is similar."""
    close = difflib.get_close_matches(word.lower(), known, 1, 0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else ""


def shorten(value: object, limit: int = 60) -> str:
    """A value as it was written, shortened and safe to print."""
    try:
        text = ascii(value)
    except RecursionError:
        text = "a deeply nested value"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _explain(found: Mapping[str, Any]) -> Problem:
    steps, container = schema.walk(Settings, found["loc"])
    path = tuple(steps)
    kind, context = found["type"], found.get("ctx") or {}
    if kind == "extra_forbidden":
        known = list(schema.fields(container)) if schema.is_model(container) else []
        return Problem(path, f"unknown key{suggest(str(path[-1]), known)}", path)
    if kind == "missing":
        return Problem(path, "is required", path[:-1], lack=True)
    if kind == "union_tag_not_found":
        return Problem((*path, "type"), "is required", path, lack=True)
    if kind == "union_tag_invalid":
        text = f"must be one of {context['expected_tags']}, not {shorten(context['tag'])}"
        return Problem((*path, "type"), text, path)
    text = _words(kind, found["msg"], context)
    value = found.get("input")
    scalar = isinstance(value, (str, int, float, bool))
    secret = any(word in str(step).lower() for step in path for word in _SECRET)
    if scalar and not secret and ", not " not in text and found["loc"][-1:] != ("[key]",):
        text += f", not {shorten(value)}"
    return Problem(path, text, path, lack=kind == "too_short")


def _words(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "must be a table"
    if kind in ("tuple_type", "list_type"):
        return "must be an array"
    if kind == "string_pattern_mismatch":
        return "is not of the right form"
    if kind == "too_short":
        return "must not be empty"
    message = message.removeprefix("Value error, ")
    return message.replace("Input should be", "must be").replace("String should", "must")
