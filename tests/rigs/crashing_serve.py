"""``penstock serve`` that kills itself (SIGKILL) at one exact point: the n-th call of a method.

Usage: crashing_serve.py POINT N serve …      The product knows nothing of this.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from penstock.backends.htcondor import HTCondorBackend
from penstock.backends.local import LocalBackend
from penstock.backends.slurm import SlurmBackend
from penstock.cli.main import main
from penstock.store import Store

POINTS: dict[str, tuple[type, str, str]] = {
    "after the journal": (Store, "add_row", "after"),
    "before submit": (LocalBackend, "submit", "before"),
    "after submit": (LocalBackend, "submit", "after"),
    "before sbatch": (SlurmBackend, "submit", "before"),
    "after sbatch": (SlurmBackend, "submit", "after"),
    "before scancel": (SlurmBackend, "cancel", "before"),
    "before condor_submit": (HTCondorBackend, "submit", "before"),
    "after condor_submit": (HTCondorBackend, "submit", "after"),
    "before condor_rm": (HTCondorBackend, "cancel", "before"),
    "after record": (Store, "save_rows", "after"),
    "before record": (Store, "save_rows", "before"),
    "before cancel": (LocalBackend, "cancel", "before"),
    "after cancel": (LocalBackend, "cancel", "after"),
    "after a cluster is saved": (Store, "save_cluster", "after"),
}


def arm(point: str, number: int) -> None:
    """Make the ``number``-th call at ``point`` the last thing that this process does."""
    owner, name, when = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    async def fatal(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == number
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await original(*args, **kwargs)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, fatal)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.argv[:] = ["penstock", *sys.argv[3:]]
    main()
