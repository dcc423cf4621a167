"""What some tests cannot do without. A developer's machine may lack it; where CI lacks it, CI fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(message: str) -> NoReturn:
    """Skip this test, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def need_root(message: str) -> None:
    """Go on as root only."""
    if os.geteuid() != 0:
        lacking(message)
