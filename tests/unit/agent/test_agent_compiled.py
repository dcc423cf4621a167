"""The child runs what the supervisor has compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.agent import supervisor


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "program.py"
    path.write_text("import sys\nprint(__name__, sys.argv[1:], sys.path[0])\n1 / 0\n")
    monkeypatch.setattr(supervisor, "__file__", str(path))
    return path


def made(program: Path) -> str:
    return supervisor.compiled(compile(program.read_text(), str(program), "exec"))


def test_it_is_the_same_program(program: Path) -> None:
    path = made(program)
    assert path == f"{program}c"
    done = subprocess.run([sys.executable, path, "--child"], capture_output=True, text=True)
    assert done.stdout == f"__main__ ['--child'] {program.parent}\n"
    assert f'File "{program}", line 3, in <module>\n    1 / 0\n' in done.stderr


def test_without_room_the_text_is_run(program: Path) -> None:
    Path(f"{program}c").mkdir()
    assert made(program) == str(program)
