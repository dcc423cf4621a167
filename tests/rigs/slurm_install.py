"""Later Slurms than the one that the host has, from Debian's later suites (see ``rigs.debian``)."""

from __future__ import annotations

import re
from pathlib import Path

from rigs.debian import cache, elf_programs, fetch, relink, run, unpacked

SUITES = {"newer": ("trixie",), "newest": ("forky", "sid")}
"""A release stands still, where the newest comes from does not: 26.05 when this was written."""

_PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "slurmrestd", "slurm-wlm-jwt-plugin", "munge"),
    *("slurmdbd", "slurm-wlm-mysql-plugin"),
)
_WANTED = re.compile(
    r"slurm|munge|patchelf$|zlib1g$|lib(?!js-|perl|python|boost-python|date-manip|debconf|pam-)"
)
PLUGINS = "usr/lib/x86_64-linux-gnu/slurm-wlm"


def later_slurm(name: str) -> Path:
    """The tree of a later version, ``newer`` or ``newest``, unpacked unless it is there already."""
    root = cache("PENSTOCK_TEST_SLURM", "penstock-test-slurm")
    return unpacked(root / name, lambda tree: _make(tree, SUITES[name]), " ".join(_PACKAGES))


def _make(tree: Path, suites: tuple[str, ...]) -> None:
    fetch(tree, suites, (*_PACKAGES, "patchelf"), _WANTED)
    relink(tree, elf_programs(tree), PLUGINS)
    for name in ("slurmctld", "slurmd", "slurmstepd"):  # Debian has them as alternatives
        (tree / "usr/sbin" / name).symlink_to(f"{name}-wlm")
    assert "slurm" in run(tree / "usr/sbin/slurmctld", "-V")
