"""What exit codes of jobs tell people, in any batch system. Pure."""

from __future__ import annotations

import signal

NO_COMMAND = 127
"""Of a job whose command is not on the node, as every shell has it."""


def code_words(code: int) -> str:
    """How a job ended that had this code: 128 + n for signal n."""
    if code == NO_COMMAND:
        return f"its Python is not there on the node (exit code {code})"
    if 128 < code < 128 + signal.NSIG and code - 128 in set(signal.Signals):
        return f"killed by {signal.Signals(code - 128).name}"
    return f"exited with code {code}"
