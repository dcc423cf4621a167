"""A real apptainer, from a later Debian than the one that the tests run on, and images for it.

Unpacked as HTCondor is (``condor_install``), and run without any privilege: it makes its containers
in user namespaces. It finds its configuration relative to itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from rigs.condor_install import _mirror, _run

_SUITE = "sid"
_WANTED = re.compile(r"apptainer$|patchelf$|squashfs-tools$|zlib1g$|lib(?!perl|python|pam-)")
_PROGRAMS = (
    *("usr/bin/apptainer", "usr/lib/x86_64-linux-gnu/apptainer/bin/starter"),
    *("usr/bin/mksquashfs", "usr/bin/unsquashfs"),
)


def apptainer() -> Path:
    """The program; fetched once, and kept between runs."""
    root = Path(os.environ.get("PENSTOCK_TEST_APPTAINER", "/var/tmp/penstock-test-apptainer"))
    if root.exists() and root.stat().st_uid != os.getuid():
        root = root.with_name(f"{root.name}-{os.getuid()}")
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    tree = root / "tree"
    with open(root / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree / ".installed").exists():
            shutil.rmtree(tree, ignore_errors=True)
            _unpack(tree)
            (tree / ".installed").touch()
    return tree / "apptainer"


def _unpack(tree: Path) -> None:
    packages, apt = tree / ".packages", tree / ".apt"
    for directory in (packages, apt / "lists/partial", apt / "archives/partial"):
        directory.mkdir(parents=True)
    uri, keyring = _mirror()
    (apt / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} {_SUITE} main\n")
    (apt / "status").write_text("")
    options = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Install-Recommends": "0",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    _run("apt-get", *flags, "update")
    wanted = ("apptainer", "squashfs-tools", "patchelf")
    plan = _run("apt-get", *flags, "--simulate", "install", *wanted)
    names = [name for name in re.findall(r"^Inst (\S+)", plan, re.M) if _WANTED.match(name)]
    _run("apt-get", *flags, "download", *names, cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        _run("dpkg", "-x", package, tree)
    libraries = f"{tree}/usr/lib:{tree}/usr/lib/x86_64-linux-gnu"
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    patch = [str(loader), "--library-path", libraries, f"{tree}/usr/bin/patchelf"]
    change = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", libraries]
    _run(*patch, *change, *(tree / name for name in _PROGRAMS))
    for place, target in (("usr", ".."), ("usr/lib", "../..")):
        for name in ("etc", "var"):
            (tree / place / name).symlink_to(f"{target}/{name}")
    start = tree / "apptainer"
    start.write_text(f'#!/bin/sh\nPATH={tree}/usr/bin:$PATH exec {tree}/usr/bin/apptainer "$@"\n')
    start.chmod(0o755)
    for directory in (apt, packages):
        shutil.rmtree(directory)
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
    _run(apptainer(), "build", path, image, env={**os.environ, **place})
    shutil.rmtree(path.parent / "cache", ignore_errors=True)
    path.chmod(0o644)
