"""Reading a configuration: TOML, the environment on top, and every mistake at once.

An admin who fixes one mistake only to be told the next gives up. So what pydantic rejects is left
out and the rest looked at again, until references between sections can be checked as well.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from penstock.model.errors import SettingsError
from penstock.settings.checks import check
from penstock.settings.problems import KeyPath, Problem, explain, show_path
from penstock.settings.root import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "PENSTOCK_"


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a TOML file (None: only defaults) and of variables
    ``PENSTOCK_<SECTION>__<KEY>``, which win over the file.

    Raises SettingsError with every mistake, one a line, each with its key.
    """
    raw = read_toml(path) if path is not None else {}
    sources = overlay(raw, environ)
    settings, problems = validate(raw)
    if settings is not None and not problems:
        return settings
    where = str(path) if path is not None else "The environment's configuration"
    lines = sorted({_line(problem, sources) for problem in problems})
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    raise SettingsError("\n  ".join([f"{where} has {count}:", *lines]))


def read_toml(path: Path) -> dict[str, Any]:
    """A file's content. Raises SettingsError, with the line of a syntax error."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: byte {error.start} is none") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[KeyPath, str]:
    """Put the environment's values into ``raw``; returns key path → variable.

    Numbers and truth values need no mark; arrays and tables are written as in TOML.
    """
    sources: dict[KeyPath, str] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or not ("__" in name or name == "LISTEN"):
            continue
        keys = name.lower().split("__")
        table = raw
        for key in keys[:-1]:
            below = table.setdefault(key, {})
            if not isinstance(below, dict):
                below = table[key] = {}
            table = below
        table[keys[-1]] = _value(environ[variable])
        sources[tuple(keys)] = variable
    return sources


def validate(raw: Mapping[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """(settings of whatever is right, every mistake)."""
    problems: list[Problem] = []
    rest: dict[str, Any] = copy.deepcopy(dict(raw))
    for _ in range(20):
        try:
            settings = Settings.model_validate(rest)
        except ValidationError as error:
            found = explain(error)
            known = {p.path for p in (*problems, *(p for p in found if not p.lack))}
            problems += [
                p for p in found if not (p.lack and _left_out(p.path, known)) and p not in problems
            ]
            # What lacks may do so only because of the others: those go first.
            wrong = [p for p in found if not p.lack] or found
            _leave_out(rest, [problem.prune for problem in wrong])
        else:
            return settings, problems + check(settings, raw, [p.path for p in problems])
    return None, problems


def _left_out(path: KeyPath, known: set[KeyPath]) -> bool:
    """True when what is lacking here is lacking because it, or something in it, was rejected."""
    return any(other[: len(path)] == path for other in known)


def _value(text: str) -> Any:
    if text.startswith(("[", "{")):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _leave_out(raw: dict[str, Any], paths: list[KeyPath]) -> None:
    for path in paths:
        # What stands nowhere (a lacking key, an address within plain text) takes its parent along.
        for end in range(len(path), 0, -1):
            if _remove(raw, path[:end]):
                break
        else:
            raw.clear()


def _remove(raw: dict[str, Any], path: KeyPath) -> bool:
    place: Any = raw
    for step in path[:-1]:
        place = place[step] if _has(place, step) else None
    if not _has(place, path[-1]):
        return False
    if isinstance(place, dict):
        del place[path[-1]]
        return True
    if not isinstance(place[path[-1]], dict):
        return False  # one value of an array: the array goes
    place[path[-1]] = {}  # one table of an array: the others keep their places
    return True


def _has(place: Any, step: str | int) -> bool:
    if isinstance(place, dict):
        return step in place
    return isinstance(place, list) and isinstance(step, int) and step < len(place)


def _line(problem: Problem, sources: Mapping[KeyPath, str]) -> str:
    path = problem.path
    for keys, variable in sources.items():
        shared = min(len(keys), len(path))
        if keys[:shared] == path[:shared]:
            return f"{show_path(path)} (from {variable}): {problem.text}"
    return f"{show_path(path)}: {problem.text}"
