"""A later Slurm than the one that the host has: Debian's next release has it (see ``rigs.debian``)."""

from __future__ import annotations

import re
from pathlib import Path

from rigs.debian import cache, elf_programs, fetch, relink, run, unpacked

VERSION, SUITE = "24.11", "trixie"

_PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "slurmrestd", "slurm-wlm-jwt-plugin", "munge"),
    *("slurmdbd", "slurm-wlm-mysql-plugin"),
)
_WANTED = re.compile(
    r"slurm|munge|patchelf$|zlib1g$|lib(?!js-|perl|python|boost-python|date-manip|debconf|pam-)"
)
PLUGINS = "usr/lib/x86_64-linux-gnu/slurm-wlm"


def newer_slurm() -> Path:
    """The tree of the later version, unpacked unless it is there already."""
    root = cache("PENSTOCK_TEST_SLURM", "penstock-test-slurm")
    return unpacked(root / VERSION, _make, " ".join(_PACKAGES))


def _make(tree: Path) -> None:
    fetch(tree, (SUITE,), (*_PACKAGES, "patchelf"), _WANTED)
    relink(tree, elf_programs(tree), PLUGINS)
    for name in ("slurmctld", "slurmd", "slurmstepd"):  # Debian has them as alternatives
        (tree / "usr/sbin" / name).symlink_to(f"{name}-wlm")
    assert VERSION in run(tree / "usr/sbin/slurmctld", "-V")
