"""``make demo``: the analysis is right, and nothing is left behind unless it was asked for."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def places(monkeypatch):
    """A temporary directory of the demo's own, with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="pk-", dir="/tmp") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


def demo(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "examples/demo.py"), "--workers", "2", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_demo(places, tmp_path):
    out = tmp_path / "out"
    shown = demo("--out", str(out))
    assert "336,776 flights" in shown
    assert re.search(r"UA United Air Lines +57,669 +12\.1 +21%", shown)
    assert re.search(r"EWR→HOU +949 +19\.0 +3\.87 ± 0\.\d\d", shown)
    assert re.search(r"http://127\.0\.0\.1:\d+/clusters/[0-9a-f]{32}/\S*status", shown)
    assert "No process is left" in shown
    assert [path.name for path in out.iterdir()] == ["flights.png"]
    assert (out / "flights.png").read_bytes().startswith(b"\x89PNG")
    assert not list(places.glob("penstock-demo-*"))


def test_demo_that_stays(places, tmp_path):
    """KEEP=1: gateway and cluster stay, and the commands that it prints look around and end it."""
    shown = demo("--keep", "--out", str(tmp_path))
    look, stop = (
        line.strip()
        for line in shown.splitlines()
        if "list_clusters" in line or "stop --clusters" in line
    )
    config = next(line.strip() for line in shown.splitlines() if "export DASK_CONFIG" in line)
    seen = subprocess.run(
        ["sh", "-c", f"{config}; {look}"], capture_output=True, text=True, timeout=120
    )
    try:
        assert "RUNNING" in seen.stdout, seen.stdout + seen.stderr
    finally:
        ended = subprocess.run(["sh", "-c", stop], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not list(places.glob("penstock-demo-*"))
