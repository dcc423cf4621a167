"""What the server remembers of submissions to Slurm: see ``penstock.backends.records``."""

from __future__ import annotations

from penstock.backends.records import Record, Records

__all__ = ["Record", "Records"]
