"""``make demo``: a private gateway, a real analysis on it, and a look that nothing is left behind.

Everything of the gateway lives in one temporary directory: its state, its password and the Dask
configuration that makes ``Gateway()`` find it. So the demo never meets a gateway that you run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console

HERE = Path(__file__).resolve().parent
PENSTOCK = Path(sys.executable).with_name("penstock")
READY = "Penstock serves "
PATIENCE = 60.0  # seconds
INTERRUPTED = 130

console = Console(highlight=False)


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether the condition came true within ``patience`` seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def start_gateway(state: Path) -> subprocess.Popen[bytes]:
    """Run ``penstock serve`` in its own session until it says that it is ready."""
    log = state / "serve.log"
    command = [str(PENSTOCK), "serve", "--state", str(state)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--dask-config", str(config_file(state))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def settled() -> bool:
        return READY in log.read_text(errors="replace") or server.poll() is not None

    with console.status("Starting a gateway …"):
        if not until(settled) or server.poll() is not None:
            raise SystemExit(f"The gateway did not start. It says:\n{log.read_text()[-4000:]}")
    line = next(line for line in log.read_text().splitlines() if READY in line)
    console.print(line[line.index(READY) :], soft_wrap=True)
    return server


def config_file(state: Path) -> Path:
    """The Dask configuration that the gateway writes for its users."""
    return state / "dask" / "gateway.yaml"


def analyse(state: Path, arguments: argparse.Namespace) -> None:
    """Run ``flights.py`` as a user would: it knows nothing but ``Gateway()``."""
    command = [sys.executable, str(HERE / "flights.py"), "--out", str(arguments.out)]
    command += ["--workers", str(arguments.workers), *["--keep"] * arguments.keep]
    environ = {**os.environ, "DASK_CONFIG": str(config_file(state).parent)}
    code = subprocess.run(command, env=environ).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        log = (state / "serve.log").read_text(errors="replace")
        raise SystemExit(f"The analysis failed, see above. The gateway says:\n{log[-4000:]}")


def processes_of(state: Path) -> list[tuple[int, str]]:
    """(pid, command line) of every process that works in the state directory or names it."""
    mark = os.fsencode(state)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        # A process may end, or be another user's, while we look.
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            traces = command + (entry / "environ").read_bytes()
            if mark in traces or mark in os.fsencode((entry / "cwd").readlink()):
                found.append((int(entry.name), command.replace(b"\0", b" ").decode().strip()))
    return found


def stop_gateway(state: Path, server: subprocess.Popen[bytes] | None) -> None:
    """Stop clusters and gateway, delete the state; fails loudly when anything is left."""
    with console.status("Shutting down …"):
        if server is not None and server.poll() is None:
            subprocess.run([PENSTOCK, "stop", "--clusters", "--state", state], check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(PATIENCE)
        until(lambda: not processes_of(state), 20)
    left = processes_of(state)
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(state, ignore_errors=True)
    if left:
        lines = "\n".join(f"  {pid} {command}" for pid, command in left)
        raise SystemExit(f"These processes were left behind and had to be killed:\n{lines}")
    console.print("Shut down. No process is left, and no file but the plot.")


@contextlib.contextmanager
def temporary_gateway() -> Iterator[Path]:
    """The state directory of a gateway that runs, and is gone afterwards whatever happens."""
    state = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    server = None
    try:
        server = start_gateway(state)
        yield state
    finally:
        stop_gateway(state, server)


def keep_gateway() -> Path:
    """The state directory of a gateway that stays when the demo ends; gone if it cannot start."""
    state = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    try:
        start_gateway(state)
    except BaseException:
        stop_gateway(state, None)
        raise
    return state


def explain(state: Path) -> None:
    """How to look around in a gateway that was kept, and how to end it."""
    console.print(
        f"""
[bold]Gateway and cluster stay up.[/] The dashboard link above goes on working. From any shell:

  export DASK_CONFIG={config_file(state).parent}
  {sys.executable} -c 'from dask_gateway import Gateway; print(Gateway().list_clusters())'

Stop it all:

  {PENSTOCK} stop --clusters --state {state} && rm -r {state}
""",
        soft_wrap=True,
    )


def interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C would, through every ``finally``."""
    raise KeyboardInterrupt


def main() -> None:
    """The whole demo."""
    parser = argparse.ArgumentParser(description="A gateway, a cluster and a real analysis.")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where the plot goes")
    parser.add_argument("--keep", action="store_true", help="leave gateway and cluster up")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        if arguments.keep:
            state = keep_gateway()
            try:
                analyse(state, arguments)
            finally:
                explain(state)
        else:
            with temporary_gateway() as state:
                analyse(state, arguments)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted.") from None


if __name__ == "__main__":
    main()
