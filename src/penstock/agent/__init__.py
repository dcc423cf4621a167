"""The agent: the one file that travels with each job into the user's environment.

Nothing here is imported by the server except this package's ``source``; the file itself is
data to us, and runs under another Python with other packages.
"""

from __future__ import annotations

from importlib import resources


def source() -> bytes:
    """The agent's file as it is sent with each job, under ``penstock.model.wire.AGENT_FILE``."""
    return resources.files(__package__).joinpath("penstock_agent.py").read_bytes()
