"""A cluster's jobs as a table for people: what is alike is one line, so that hundreds fit a screen.

Times are in the zone of whoever looks, with the date only where it is not today's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Column, Table
from rich.text import Text

_MINUTE = 60

Line = Mapping[str, Any]
"""One job of ``penstock.client.Gateway.jobs``."""


def fold(jobs: Iterable[Line]) -> list[list[Line]]:
    """Jobs of a batch that fare alike, together; in the order of the first of each."""
    alike: dict[tuple[object, ...], list[Line]] = {}
    for job in jobs:
        batch = str(job["job"]).partition("-")[0]
        key = (batch, job["phase"], job["exit"], job["reason"])
        alike.setdefault(key, []).append(job)
    return list(alike.values())


def job_table(jobs: Sequence[Line], now: float, *, every: bool) -> Table:
    """The table. ``every``: a line for each job. ``now``: seconds since the epoch."""
    table = Table(
        Column("job", no_wrap=True),
        Column("", justify="right", no_wrap=True),
        Column("state", no_wrap=True),
        Column("node", overflow="fold", max_width=20),
        Column("", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    for some in [[job] for job in jobs] if every else fold(jobs):
        number = str(len(some)) if len(some) > 1 else ""
        table.add_row(_names(some), number, _state(some[0]), _nodes(some), Text(detail(some, now)))
    return table


def _names(some: Sequence[Line]) -> str:
    first, last = some[0]["job"], some[-1]["job"]
    return str(first) if len(some) == 1 else f"{first} … {last}"


def _state(job: Line) -> str:
    return str(job["exit"] or job["phase"]).replace("_", " ")


def _nodes(some: Sequence[Line]) -> Text:
    nodes = sorted({str(job["node"]) for job in some if job["node"]})
    return Text(", ".join(nodes) if len(nodes) <= 2 else f"{len(nodes)} nodes")


def detail(some: Sequence[Line], now: float) -> str:
    """Why and since when, and what is expected, of jobs that fare alike."""
    job = some[0]
    said = [job["reason"]] if job["reason"] else []
    if job["phase"] in ("queued", "held"):
        said += [_when("since", some, "submitted", now), _when("expected", some, "expected", now)]
    elif job["phase"] != "exited":
        said += [
            _when("since", some, "since", now),
            _waited(some),
            _when("ends", some, "ends", now),
        ]
    return ", ".join(text for text in said if text)


def _waited(some: Sequence[Line]) -> str:
    longest = max((job["wait"] or 0 for job in some), default=0)
    if longest < _MINUTE:
        return ""
    minutes = int(longest // _MINUTE)
    hours = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"waited {hours}" if len(some) == 1 else f"waited up to {hours}"


def _when(word: str, some: Sequence[Line], key: str, now: float) -> str:
    times = [job[key] for job in some if job[key] is not None]
    if not times:
        return ""
    first, last = moment(min(times), now), moment(max(times), now)
    return f"{word} {first}" if first == last else f"{word} {first} to {last}"


def moment(at: float, now: float) -> str:
    """A time of day, with the date when that is not today's."""
    local = datetime.fromtimestamp(at)
    today = local.date() == datetime.fromtimestamp(now).date()
    return local.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
