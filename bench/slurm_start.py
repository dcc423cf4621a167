"""Where the time from ``new_cluster`` to RUNNING goes: what is Slurm's, the import's, and ours.

``sbatch`` and the scheduler's Python are wrapped so that both note when they begin, which costs a few
milliseconds and counts as ours. When Slurm began the job's script is read from the kernel, to 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.slurm_variants import Variant, penstock

from rigs.environments import environment
from rigs.slurm import Slurm

Note = Callable[[str, float], None]

SHARE = "new_cluster: our share, s"

_SBATCH = """\
#!/bin/sh
echo "asked $(date +%s%N)" >>{moments}
{real} "$@"
code=$?
echo "taken $(date +%s%N)" >>{moments}
exit $code
"""

_PYTHON = """\
#!/bin/sh
if [ "$1" = -I ]; then # the first of its processes, a child of the job's script
  read -r up idle </proc/uptime
  read -r pid comm state parent group session tty foreground flags a b c d e f g h i j k l begun rest \\
    </proc/$PPID/stat
  echo "python $(date +%s%N) $up $begun" >>{moments}
fi
exec {real} "$@"
"""

IMPORT = "import distributed"
SCHEDULER = """\
import asyncio
from distributed import Scheduler
async def main():
    await Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0")
asyncio.run(main())
import os
os._exit(0)
"""
"""A scheduler without TLS and pages that has begun to listen: more than the import, less than ours."""


def shares(slurm: Slurm, user: str, rounds: int, note: Note) -> None:
    """Start ``rounds`` clusters, and note what each part took, with a bare import beside each."""
    python = environment("new")
    with _watching(slurm, user, python) as (variant, moments):
        for _ in range(rounds):
            note("import distributed, s", _bare(python, user, IMPORT))
            note("import and start of a bare scheduler, s", _bare(python, user, SCHEDULER))
            moments.write_text("")
            begin = time.time()
            cluster = variant.client.new_cluster(shutdown_on_close=False)
            end = time.time()
            for name, seconds in parts(moments.read_text(), begin, end).items():
                note(name, seconds)
            cluster.shutdown()
            cluster.close()
            slurm.cancel_all()


def parts(text: str, begin: float, end: float) -> dict[str, float]:
    """What the notes of one start mean. ``begin``, ``end``: of ``new_cluster``, since the epoch."""
    words = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    asked, taken, python = (int(words[name][0]) / 1e9 for name in ("asked", "taken", "python"))
    uptime, ticks = float(words["python"][1]), int(words["python"][2])
    script = python - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    return {
        "start: request until sbatch, s": asked - begin,
        "start: sbatch, s": taken - asked,
        "start: sbatch until the script runs, s": script - taken,
        "start: script until Python, s": python - script,
        "start: Python until RUNNING, s": end - python,
    }


def our_share(figures: dict[str, list[float]]) -> list[float]:
    """Seconds of each start beyond Slurm's and the usual import's."""
    usual = statistics.median(figures["import distributed, s"])
    ours = ("request until sbatch", "script until Python", "Python until RUNNING")
    each = zip(*(figures[f"start: {name}, s"] for name in ours), strict=True)
    return [sum(values) - usual for values in each]


def _bare(python: Path, user: str, program: str) -> float:
    """Seconds that a Python of the user's takes for a program."""
    begin = time.perf_counter()
    words = [python, "-c", program]
    subprocess.run(words, user=user, cwd="/", check=True, env={"HOME": "/"}, capture_output=True)
    return time.perf_counter() - begin


@contextlib.contextmanager
def _watching(slurm: Slurm, user: str, python: Path) -> Iterator[tuple[Variant, Path]]:
    """A gateway of ours whose commands and Python note when they begin, and where they do."""
    place = slurm.directory / "watched"
    (place / "bin").mkdir(parents=True)
    place.chmod(0o755)
    moments = place / "moments"
    moments.touch()
    moments.chmod(0o666)
    for name, text, real in (
        ("bin/sbatch", _SBATCH, shutil.which("sbatch")),
        ("python", _PYTHON, str(python)),
    ):
        words = {"moments": shlex.quote(str(moments)), "real": shlex.quote(str(real))}
        path = place / name
        path.write_text(text.format(**words))
        path.chmod(0o755)
    with penstock(slurm, user, python=place / "python", commands=place / "bin") as variant:
        yield variant, moments
