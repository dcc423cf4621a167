"""A real Dask cluster with its dashboard, in a process of its own, that works when told.

Also the script that this process runs: it prints the dashboard's address, then computes as many
short tasks as each line of its input says, and answers each line when they are done.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator


class DaskCluster:
    """``dashboard`` is the address as an agent announces it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.dashboard = self._line()
        self.worker = self._line()

    @contextlib.contextmanager
    def working(self, tasks: int) -> Iterator[None]:
        """Compute this many tasks of 50 ms while the block runs; all are done when it ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{tasks}\n")
        self._process.stdin.flush()
        try:
            yield
        finally:
            assert self._line() == "done"

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the Dask cluster of the test ended"
        return line


@contextlib.contextmanager
def dask_cluster() -> Iterator[DaskCluster]:
    """A scheduler and two workers until the block ends."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield DaskCluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def main() -> None:
    """Run until the input ends."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        print(f"http://127.0.0.1:{cluster.scheduler.services['dashboard'].port}", flush=True)
        print(next(iter(cluster.scheduler.workers)), flush=True)
        for line in sys.stdin:
            futures = client.map(lambda x: time.sleep(0.05), range(int(line)), pure=False)
            client.gather(futures)
            print("done", flush=True)


if __name__ == "__main__":
    main()
