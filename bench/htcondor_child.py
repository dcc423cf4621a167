"""A user's notebook that obeys: ``new``, ``scale N``, ``close``, a line each, answered by ``done``.

    python htcondor_child.py notebook          HTCGateway, with the Dask configuration's words
    python htcondor_child.py /path/of/sleeper  dask-jobqueue, whose workers are that program

It runs in the user's own environment, where nothing of the bench can be imported.
"""

from __future__ import annotations

import gc
import sys
from typing import Any


def make(kind: str) -> Any:
    """A new cluster without workers."""
    if kind == "notebook":
        from penstock.client.htcondor import HTCGateway

        return HTCGateway().new_cluster(profile="lent")
    from dask_jobqueue import HTCondorCluster

    return HTCondorCluster(
        cores=1,
        processes=1,
        memory="512 MiB",
        disk="1 MB",
        python=kind,
        scheduler_options={"dashboard_address": None},
    )


def main(kind: str) -> None:
    gc.disable()  # ``Gateway.__del__`` must not run in its own loop
    cluster: Any = None
    for line in sys.stdin:
        order, _, number = line.strip().partition(" ")
        if order == "new":
            cluster = make(kind)
        elif order == "scale" and kind == "notebook":
            cluster.scale(int(number))
        elif order == "scale":
            cluster.scale(jobs=int(number))
        elif order == "close":
            cluster.close(**({"shutdown": True} if kind == "notebook" else {}))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
