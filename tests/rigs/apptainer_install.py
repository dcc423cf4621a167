"""A real apptainer, from a later Debian than the one that the tests run on, and images for it.

Unpacked as HTCondor is (see ``rigs.debian``), and run without any privilege: it makes its containers
in user namespaces. It finds its configuration relative to itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from rigs.debian import cache, fetch, relink, run, unpacked

_WANTED = re.compile(r"apptainer$|patchelf$|squashfs-tools$|zlib1g$|lib(?!perl|python|pam-)")
_PROGRAMS = (
    *("usr/bin/apptainer", "usr/lib/x86_64-linux-gnu/apptainer/bin/starter"),
    *("usr/bin/mksquashfs", "usr/bin/unsquashfs"),
)


def apptainer() -> Path:
    """The program; fetched once, and kept between runs."""
    root = cache("PENSTOCK_TEST_APPTAINER", "penstock-test-apptainer")
    return unpacked(root / "tree", _make) / "apptainer"


def _make(tree: Path) -> None:
    fetch(tree, ("sid",), ("apptainer", "squashfs-tools", "patchelf"), _WANTED)
    relink(tree, [tree / name for name in _PROGRAMS])
    for place, target in (("usr", ".."), ("usr/lib", "../..")):
        for name in ("etc", "var"):
            (tree / place / name).symlink_to(f"{target}/{name}")
    start = tree / "apptainer"
    start.write_text(f'#!/bin/sh\nPATH={tree}/usr/bin:$PATH exec {tree}/usr/bin/apptainer "$@"\n')
    start.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rX", tree], check=True)


def make_image(directory: Path) -> None:
    """An unpacked image with nothing in it but places to bind: to be used with ``/usr`` bound."""
    for name in ("usr", "srv", "tmp", "proc", "sys", "dev", "etc", "root", "home", "var/tmp"):
        (directory / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (directory / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf", "localtime"):
        (directory / "etc" / name).touch()
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)


def make_sif(path: Path, image: Path) -> None:
    """The same as one file."""
    place = {"APPTAINER_TMPDIR": str(path.parent), "APPTAINER_CACHEDIR": str(path.parent / "cache")}
    run(apptainer(), "build", path, image, env={**os.environ, **place})
    shutil.rmtree(path.parent / "cache", ignore_errors=True)
    path.chmod(0o644)
