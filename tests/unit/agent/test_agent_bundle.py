from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import agent
from penstock.agent.bundle import bundle

HERE = Path(agent.__file__).parent


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Python 3.11 cannot begin to parse while it parses, as for a traceback of what gc met."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_file_is_one_program() -> None:
    text = agent.source().decode()
    compile(text, "agent", "exec")
    assert "penstock.agent." not in text.split('"""', 2)[2].replace("``penstock.agent", "")
    assert text.rstrip().endswith("sys.exit(supervise(sys._getframe().f_code))")


def test_it_parses_on_old_pythons() -> None:
    # 3.8 is what it needs; down to 3.6 it at least says so instead of a SyntaxError.
    ast.parse(agent.source(), feature_version=(3, 6))


def test_it_imports_only_what_distributed_brings() -> None:
    allowed = {"distributed", "dask", "tornado", "psutil"}
    found = set()
    for node in ast.walk(ast.parse(agent.source())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found - set(sys.stdlib_module_names) == allowed


def test_the_supervisor_imports_little() -> None:
    tree = ast.parse(agent.source())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    assert found <= {"collections", "contextlib", "json", "os", "signal", "subprocess"} | {
        "re",
        "sys",
        "threading",
        "time",
        "types",
        "typing",
    }


def test_every_module_is_in_it() -> None:
    modules = {path.stem for path in HERE.glob("*.py")}
    assert modules == set(agent.MODULES) | {"__init__", "bundle"}


def test_own_imports_go() -> None:
    first = '"""First."""\n\nA = 1\n'
    second = "import os\nfrom penstock.agent.first import (\n    A,\n)\n\nB: int = A\n"
    assert bundle([first, second]) == '"""First."""\n\nA = 1\n\n\nimport os\n\nB: int = A\n'


@pytest.mark.parametrize("again", ["A = 2", "def A(): ...", "class A: ...", "A: int = 2"])
def test_a_name_stands_for_one_thing(again: str) -> None:
    with pytest.raises(ValueError, match="defined twice in the agent: A"):
        bundle(["A = 1", again])


def test_imports_do_not_rename() -> None:
    with pytest.raises(ValueError, match="renames what it takes"):
        bundle(["from penstock.agent.base import a as b"])
