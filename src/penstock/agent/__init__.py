"""The agent: what runs inside a job, as one file that travels with it.

The supervisor (``supervisor``) starts the Dask process (``main``), which is a scheduler that keeps
the channel to the server (``scheduler``, ``channel``) or a worker (``worker``). All of it needs
only Python >= 3.8 and ``distributed`` >= 2022.1, and parses on Python 3.6, so that the ``python3``
of an old system can say that it is too old. Nothing here is imported by the server but ``source``.
"""

from __future__ import annotations

import functools
from importlib import resources

from penstock.agent.bundle import bundle

MODULES = (
    "base",
    "endings",
    "output",
    "manifest",
    "activation",
    "sourcing",
    "supervisor",
    "child",
    "rules",
    "channel",
    "observe",
    "matching",
    "retirement",
    "logs",
    "links",
    "scheduler",
    "worker",
    "main",
)
"""What the file is made of, in an order in which each finds what it needs."""

HEADER = '''"""Penstock's agent: starts a Dask scheduler or worker in this job and reports on it.

Made from the modules of penstock.agent, which are the place to read and to change it.
"""

'''


@functools.lru_cache(maxsize=1)
def source() -> bytes:
    """The agent's file as it is sent with each job, under ``penstock.model.wire.AGENT_FILE``."""
    files = resources.files(__package__)
    modules = [files.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in MODULES]
    return (HEADER + bundle(modules)).encode()
