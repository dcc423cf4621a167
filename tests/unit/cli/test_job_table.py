"""What ``penstock show`` makes of a cluster's jobs."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

from rich.console import Console

from penstock.cli.jobs import fold, job_table

NOW = datetime(2026, 11, 20, 13, 30).timestamp()
SINCE = datetime(2026, 11, 20, 13, 2).timestamp()


def line(job: str, phase: str = "queued", **more: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("exit", "since", "expected", "ends", "wait"))
    base = {"job": job, "phase": phase, "reason": "", "node": "", "submitted": SINCE, **nothing}
    return {**base, **more}


def shown(jobs: list[dict[str, Any]], *, every: bool = False, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(job_table(jobs, NOW, every=every))
    lines = [text.rstrip() for text in out.getvalue().splitlines()]
    assert all(len(text) <= width for text in lines)
    return lines[1:]


def running(job: str, node: str, **more: Any) -> dict[str, Any]:
    return line(job, "running", node=node, since=SINCE + 60, wait=60.0, **more)


def test_hundreds_of_equal_jobs_are_one_line() -> None:
    expected = datetime(2026, 11, 20, 14, 5).timestamp()
    jobs = [line(f"w3-{i}", reason="Priority", expected=expected) for i in range(100)]
    assert shown(jobs) == ["w3-0 … w3-99  100  queued        Priority, since 13:02, expected 14:05"]
    assert len(shown(jobs, every=True)) == 100


def test_each_way_to_fare_has_its_line() -> None:
    jobs = [
        running("s0-0", "node01", ends=NOW + 86400),
        *(running(f"w1-{i}", f"node{i % 2}") for i in range(3)),
        line("w1-3", "exited", exit="time_limit", node="node1"),
        line("w1-4", "held", reason="JobHeldUser"),
        *(running(f"w1-{i}", f"node{i}") for i in range(5, 9)),
    ]
    assert [len(some) for some in fold(jobs)] == [1, 7, 1, 1]
    assert shown(jobs) == [
        "s0-0            running     node01   since 13:03, waited 1 min, ends 2026-11-21",
        "                                     13:30",
        "w1-0 … w1-8  7  running     6 nodes  since 13:03, waited up to 1 min",
        "w1-3            time limit  node1",
        "w1-4            held                 JobHeldUser, since 13:02",
    ]


def test_a_long_reason_breaks_and_markup_is_text() -> None:
    reason = "[red]" + "QOSMaxCpuPerUserLimit " * 8
    text = " ".join(" ".join(shown([line("w12345-0", reason=reason)])).split())
    assert "[red]QOSMax" in text
    assert text.count("QOSMaxCpuPerUserLimit") == 8
