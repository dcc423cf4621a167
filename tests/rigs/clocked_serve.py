"""``penstock serve`` under a clock that can be set: seconds in a file are added to the wall clock.

Usage: clocked_serve.py FILE serve …      The product knows nothing of this.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def set_clock(file: Path) -> None:
    """Shift ``time.time`` by what the file says, from now on and whenever it changes."""
    real = time.time

    def shifted() -> float:
        return real() + float(file.read_text() or 0.0)

    time.time = shifted


if __name__ == "__main__":
    set_clock(Path(sys.argv[1]))
    sys.argv[:] = ["penstock", *sys.argv[2:]]
    # Only now: defaults like ``clock=time.time`` are taken at the import.
    from penstock.cli.main import main

    main()
