"""A user's notebook as a process of its own, in an environment of the user's.

The code is a text: it runs where nothing of ours can be imported. What it puts into the
dictionary ``out`` (JSON) is what comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rigs.gateway import GatewayRig

_HEAD = """
import faulthandler, gc, json, os, sys, time
from dask_gateway import BasicAuth, Gateway, GatewayCluster

out = {}
given = json.loads(os.environ["NOTEBOOK"])
gc.disable()  # else it may run Gateway.__del__ in its own loop's thread, which then waits for itself
faulthandler.dump_traceback_later(given["seconds"], exit=True)  # so that a hang shows where
auth = BasicAuth(given["user"], given["password"])


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.05)


def words(call, *args, **kwargs):
    try:
        return "no error: %r" % (call(*args, **kwargs),)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
"""

_TAIL = """
print("NOTEBOOK:" + json.dumps(out))
"""


def run_notebook(
    rig: GatewayRig,
    python: Path | str,
    code: str,
    *,
    environ: Mapping[str, str] | None = None,
    seconds: float = 100.0,
    **given: Any,
) -> dict[str, Any]:
    """Run ``code`` with an interpreter; it knows ``given``, ``auth``, ``until`` and ``words``."""
    access = {"address": rig.address, "user": rig.user, "password": rig.password}
    given = {**access, "seconds": seconds, **given}
    script = rig.directory / "notebook.py"
    script.write_text(_HEAD + textwrap.dedent(code) + _TAIL)
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), str(script)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        cwd=rig.directory,
        env={**clean, "NOTEBOOK": json.dumps(given), **(environ or {})},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("NOTEBOOK:")]
    told = f"{done.stdout}\n{done.stderr}\n{rig.log.read_text()}"
    assert done.returncode == 0, told
    assert lines, told
    out: dict[str, Any] = json.loads(lines[-1].partition(":")[2])
    return {**out, "stderr": done.stderr}
