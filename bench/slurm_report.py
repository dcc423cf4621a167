"""What ``bench.slurm`` has found, as a table: medians, ratios to the peer's, and the aims."""

from __future__ import annotations

import statistics
from typing import Any

from bench.slurm_start import SHARE, our_share

Figures = dict[str, list[float]]

TIMES_BETTER = {
    "scale(100), s": 50.0,
    "scale(100), CPU s": 100.0,
    "stop of 100, s": 30.0,
    "new_cluster → RUNNING, s": 1.0,
}
"""How many times the peer's figure has to be ours at least."""

AT_MOST = {
    "scale(300) beyond sbatch, s": 0.1,
    "scale(1000) beyond sbatch, s": 0.1,
    SHARE: 0.15,
    "steady: % of a core": 3.0,
    "steady: squeue a period": 1.2,  # one more a minute is for Prometheus
}


def derived(found: dict[str, Figures]) -> None:
    """Add the figures that follow from others."""
    ours, slurm = found["penstock"], found["slurm"]
    for name in [name for name in ours if name.endswith("), CPU s")]:
        size = int(name.partition("(")[2].partition(")")[0])
        ours[f"scale({size}), CPU ms a worker"] = [1000 * value / size for value in ours[name]]
        floor = slurm.get(f"sbatch of {size} until in the queue, s")
        if floor and size > 100:
            usual = statistics.median(floor)
            times = ours[f"scale({size}), s"]
            ours[f"scale({size}) beyond sbatch, s"] = [value - usual for value in times]
    theirs = found["peer"]
    if "scale(100), CPU s" in theirs:
        each = [10 * value for value in theirs["scale(100), CPU s"]]
        theirs["scale(100), CPU ms a worker"] = each
    if "import distributed, s" in ours:
        ours[SHARE] = our_share(ours)


def report(found: dict[str, Figures]) -> None:
    """Print it all; a figure that misses its aim says so."""
    print(f"\n{'Slurm itself':46} {'median':>10}   range")
    for name, values in found["slurm"].items():
        print(f"{name:46} {statistics.median(values):10.3f}   {_range(values)}")
    print(f"\n{'figure':46} {'peer':>10} {'penstock':>10} {'ratio':>8}   {'aim':22} range")
    for name, values in found["penstock"].items():
        ours = statistics.median(values)
        theirs = found["peer"].get(name)
        line: list[Any] = [f"{name:46}", f"{'':>10}", f"{ours:10.3f}", f"{'':>8}"]
        ratio = None
        if theirs:
            ratio = statistics.median(theirs) / max(ours, 1e-9)
            line[1], line[3] = f"{statistics.median(theirs):10.3f}", f"{ratio:7.1f}×"
        print(*line, f" {_aim(name, ours, ratio):22} {_range(values)}")


def _aim(name: str, ours: float, ratio: float | None) -> str:
    if name in AT_MOST:
        return f"≤ {AT_MOST[name]:g}{', missed' if ours > AT_MOST[name] else ''}"
    if name in TIMES_BETTER:
        missed = ratio is not None and ratio < TIMES_BETTER[name]
        return f"≥ {TIMES_BETTER[name]:g}×{', missed' if missed else ''}"
    return ""


def _range(values: list[float]) -> str:
    return f"{min(values):.3f}–{max(values):.3f}"
