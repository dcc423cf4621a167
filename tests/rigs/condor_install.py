"""HTCondor's programs: Debian 12 carries none, its successors do (see ``rigs.debian``)."""

from __future__ import annotations

import re
from pathlib import Path

from rigs.debian import cache, elf_programs, fetch, relink, run, unpacked

SUITES = {"23.9": ("trixie",), "25.14": ("forky", "sid")}
"""Versions of HTCondor, and the suites of Debian that have them, the first of these that can be
installed. Those after trixie move on: what they have now is then what is tried."""

_WANTED = re.compile(
    r"condor$|patchelf$|zlib1g$|lib(?!js-|perl|python|boost-python|date-manip|debconf|pam-)"
)


def installed(version: str) -> Path:
    """The tree of one version, unpacked unless it is there already."""
    root = cache("PENSTOCK_TEST_CONDOR", "penstock-test-condor")
    return unpacked(root / version, lambda tree: _make(tree, SUITES[version]))


def _make(tree: Path, suites: tuple[str, ...]) -> None:
    fetch(tree, suites, ("condor", "patchelf"), _WANTED)
    relink(tree, elf_programs(tree))
    run(tree / "usr/bin/condor_version", env={"CONDOR_CONFIG": "/dev/null"})
