"""Run a launcher and understand its answer. Blocks; called in a thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import penstock
from penstock.model.errors import BackendError, Rejected, Unavailable, Uncertain

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from penstock.backends.launcher.main import main; main()"
)


def run_launcher(path: Path, tag: str, request: bytes, *, timeout: float) -> None:
    """Start the launcher of a batch in its directory and wait until its jobs run.

    Raises Rejected or Unavailable (certainly nothing runs), or Uncertain.
    """
    site = str(Path(penstock.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", _BOOT, site]
    log = path / "launcher.log"
    try:
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=path,
                env={"PENSTOCK_TAG": tag},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
    except OSError as error:
        raise Unavailable(f"no job can be started in {path}: {error.strerror}") from error
    with process:
        try:
            answer, _ = process.communicate(request, timeout=timeout)
        except subprocess.TimeoutExpired:
            text = f"the launcher of {tag} did not answer within {timeout:.0f} s"
            raise Uncertain(text) from None
    failure = _understand(answer, log)
    if failure is not None:
        raise failure


def _understand(answer: bytes, log: Path) -> BackendError | None:
    try:
        message = json.loads(answer)
        ok, kind, text = message["ok"], message.get("kind", ""), str(message.get("text", ""))
    except (ValueError, KeyError, TypeError):
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        last = lines[-1] if lines else "it was killed"
        return Uncertain(f"the launcher died before it said whether the jobs run: {last}")
    if ok:
        return None
    return Rejected(text) if kind == "rejected" else Unavailable(text)
