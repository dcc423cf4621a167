"""``penstock doctor`` as an admin runs it."""

from __future__ import annotations

import re
import subprocess
import sys


def told(text: str) -> str:
    """Lines as one, as their width does not matter."""
    return re.sub(r"\s+", " ", text)


def doctor(*arguments: object) -> tuple[int, str]:
    """Exit status and output of the command."""
    command = [sys.executable, "-m", "penstock", "doctor", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout
