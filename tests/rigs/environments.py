"""Real Python environments for jobs: what users bring, built once and kept between runs.

The agent has to run where nothing of ours is installed, so tests need environments that are not
the one of the tests. They lie in a world-readable directory (jobs may run as another Unix user),
named by a hash of what is in them, and are built under a lock, so that parallel runs share them.
``PENSTOCK_TEST_ENVS`` and ``PENSTOCK_TEST_PYTHON`` choose another directory and base Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

NEW = ("distributed", "dask", "dask-gateway", "bokeh")

PEER = ("dask-gateway-server[jobqueue]==2026.3.0", *NEW)
"""What the benches compare with."""

JOBQUEUE = ("dask-jobqueue==0.9.0", "distributed", "dask")
"""Another one, on HTCondor."""

FERMILAB = ("htcdaskgateway==0.1.25", "pyyaml", *NEW)
"""A client that brings workers itself; it names none of what it needs."""

NCSA = (
    "ncsa-htcdaskgateway==1.0.4",
    "dask==2025.2.0",
    "distributed==2025.2.0",
    "tornado==6.4.2",
    "bokeh<3.8",
)
"""Another one, with the versions that its page tells."""

NOTEBOOK = (*NEW, "pydantic>=2.6", "cryptography", "python-dotenv", "ipywidgets", "rich")
"""What a notebook has that submits workers (``penstock[htcondor]``), but for Penstock itself."""

OLD = (
    "distributed==2023.12.1",
    "dask==2023.12.1",
    "dask-gateway==2024.1.0",
    "bokeh==3.3.4",
    "numpy<2",
    "pandas<2.2",
)

OLD_313 = (  # the oldest that Python 3.13 can run
    "distributed==2024.12.1",
    "dask==2024.12.1",
    "dask-gateway==2024.1.0",
    "bokeh>=3.6,<3.7",
    "pandas<3",
)


def base_python() -> Path:
    """The interpreter under the environments: the system's, which every Unix user can run."""
    return Path(os.environ.get("PENSTOCK_TEST_PYTHON", "/usr/bin/python3"))


def requirements(name: str, version: tuple[int, int]) -> tuple[str, ...]:
    """What is installed in "old", "new", "peer" and "jobqueue" (that we are compared with), "fermilab",
    "ncsa" or "empty" (not even pip)."""
    old = OLD if version < (3, 13) else OLD_313
    known = {"new": NEW, "old": old, "empty": (), "peer": PEER}
    return {
        **known,
        "jobqueue": JOBQUEUE,
        "fermilab": FERMILAB,
        "ncsa": NCSA,
        "notebook": NOTEBOOK,
    }[name]


def environment(name: str) -> Path:
    """The interpreter of the environment ``name``, see ``requirements``. Built when missing."""
    base = base_python()
    version = _version(base)
    wanted = requirements(name, version)
    key = hashlib.sha256(repr((name, str(base), version, wanted)).encode()).hexdigest()[:16]
    root = _root()
    place = root / f"{name}-{key}"
    with open(root / f"{name}-{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            _build(base, place, wanted)
            (place / ".complete").touch()
    return place / "bin" / "python"


def _root() -> Path:
    """The cache directory: shared unless it belongs to a stranger, who could plant code in it."""
    root = Path(os.environ.get("PENSTOCK_TEST_ENVS", "/var/tmp/penstock-test-envs"))
    if root.exists() and (root.stat().st_uid != os.getuid()):
        root = root.with_name(f"{root.name}-{os.getuid()}")
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    return root


def _version(python: Path) -> tuple[int, int]:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _build(base: Path, place: Path, wanted: tuple[str, ...]) -> None:
    """Make one environment; readable by all whatever this process's umask is."""
    options = [] if wanted else ["--without-pip"]
    _run([str(base), "-m", "venv", *options, str(place)])
    if wanted:
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", *wanted])


def _run(command: list[str]) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run(command, check=True, umask=0o022, env=clean, stdin=subprocess.DEVNULL)
