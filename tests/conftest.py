"""The whole session: every test has a deadline, and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

import hypothesis  # here: its plugin imports the rest at the end, deep in the stack; ast.parse may fail there
import pytest

from rigs.lanes import Lanes, in_order
from rigs.leftovers import Leftovers

pytest_plugins = ["rigs.users", "rigs.slurm_sessions", "rigs.slurm_acting", "rigs.condor_pools"]

# A slow machine is no failure; what runs too long in earnest meets the timeout of its test.
hypothesis.settings.register_profile(
    "penstock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("penstock")

_leftovers = Leftovers()
_found: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before anything is started. Temporary directories of tests go into one that is removed."""
    _leftovers.start()
    base = tempfile.mkdtemp(prefix="pk-test-", dir="/tmp")
    config.add_cleanup(lambda: shutil.rmtree(base, ignore_errors=True))
    # Libraries make temporary directories of their own, some until the very end.
    os.environ["TMPDIR"] = tempfile.tempdir = _leftovers.base = base
    # A process of several is given one below the first one's: too long a path for Unix sockets.
    if not config.option.basetemp or hasattr(config, "workerinput"):
        config.option.basetemp = f"{base}/t"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Say which tests share a process."""
    return Lanes(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session for anything that it left behind."""
    _found.extend(_leftovers.find())
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["leftovers"] = _found


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes is through: what it left counts as ours."""
    _found.extend(getattr(node, "workeroutput", {}).get("leftovers", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left."""
    if _found:
        terminalreporter.section("left behind by the tests", red=True, bold=True)
        for line in _found:
            terminalreporter.line(line, red=True)
