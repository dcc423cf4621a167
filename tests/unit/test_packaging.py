"""What is installed: a base install without the server, a wheel with all that it needs."""

import json
import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).resolve().parents[2]

BASE_IMPORTS = """
import importlib, json, sys

SERVER_ONLY = {SERVER_ONLY!r}

class Missing:
    "A base install: the server's dependencies cannot be imported."
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in SERVER_ONLY:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""

SERVER_ONLY = [
    "pydantic",
    "sqlalchemy",
    "alembic",
    "prometheus_client",
    "structlog",
    "argon2",
    "bcrypt",
]


def base_install(
    code: str, *arguments: str, besides: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that has only what the base install has, and ``besides``."""
    missing = [name for name in SERVER_ONLY if name not in besides]
    program = BASE_IMPORTS.format(SERVER_ONLY=missing) + code
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built as ``pip install`` would, without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling import build; print(build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(directory / done.stdout.split()[-1]) as archive:
        yield archive


def test_base_install_has_the_client():
    done = base_install("from penstock.client import Gateway; print(Gateway.__name__)")
    assert (done.returncode, done.stdout) == (0, "Gateway\n"), done.stderr


def test_a_notebook_that_submits_workers_needs_little_of_the_server():
    code = "import penstock.notebook.process; from htcdaskgateway import HTCGateway as H; print(H)"
    done = base_install(code, besides=("pydantic",))
    assert done.returncode == 0, done.stderr
    assert "penstock.client.htcondor.HTCGateway" in done.stdout


def test_base_install_has_the_command_line():
    run = "sys.argv[0] = 'penstock'; from penstock.cli.main import main; main()"
    shown = base_install(run, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "serve" in shown.stdout
    refused = base_install(run, "serve")
    assert refused.returncode != 0
    assert "pip install 'penstock[server]'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_command_is_importable():
    code = "import importlib, json; from penstock.cli.main import _COMMANDS as c\n"
    code += "print(json.dumps([callable(getattr(importlib.import_module(m), n)) for n, (m, _) in c.items()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(done.stdout))


def test_wheel_holds_every_file_of_the_package(wheel):
    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/penstock").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(wheel.namelist())


def test_the_installed_wheel_makes_the_same_agent(wheel, tmp_path):
    from penstock import agent

    wheel.extractall(tmp_path)
    code = "import sys; from penstock import agent; sys.stdout.buffer.write(agent.source())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=120,
    )
    assert done.stdout == agent.source(), done.stderr.decode()
    compile(done.stdout, "penstock_agent.py", "exec")


def test_wheel_has_licence_and_version(wheel):
    info = f"penstock-{penstock.__version__}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["Version"] == penstock.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert "Redistribution and use" in wheel.read(f"{info}/licenses/LICENSE").decode()


def test_wheel_has_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"penstock", "htcdaskgateway", f"penstock-{penstock.__version__}.dist-info"}
