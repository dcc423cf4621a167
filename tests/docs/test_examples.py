"""The Python in README and guides runs as it stands, block after block, against a real gateway."""

import subprocess
import sys

import pytest

from docs.markdown import ROOT, blocks, documents
from rigs.gateway import running_gateway

WITH_PYTHON = [p.relative_to(ROOT).as_posix() for p in documents() if blocks(p, "python")]

WITHOUT_COLLECTOR = "import gc; gc.disable()"
"""A failed ``new_cluster`` leaves a Gateway in a reference cycle. When the collector happens to run in
the client's own event loop, ``Gateway.__del__`` (dask_gateway 2026.3) waits there for that loop."""


@pytest.fixture(scope="module")
def gateway():
    with running_gateway() as rig:
        yield rig


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_runs(name, gateway, tmp_path):
    """A whole document as one program; line numbers in a traceback are the document's."""
    program = WITHOUT_COLLECTOR
    for block in blocks(ROOT / name, "python"):
        program += "\n" * (block.line - program.count("\n")) + block.text
    script = tmp_path / "document.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**gateway.environ, "DASK_CONFIG": str(gateway.dask_config.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, f"{name}:\n{done.stderr}"
    assert "Unclosed" not in done.stderr, f"{name}:\n{done.stderr}"
    left = [cluster.name for cluster in gateway.client().list_clusters()]
    assert not left, f"{name} leaves clusters: {left}"


def test_the_documents_have_examples():
    """A guard against a pattern that finds nothing."""
    assert {"README.md", "docs/user/README.md", "docs/user/clusters.md"} <= set(WITH_PYTHON)
