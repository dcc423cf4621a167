"""HTCondor's programs, from a later Debian than the one that the tests run on.

Debian 12 carries no HTCondor, its successors do. The packages are fetched from the mirror that apt
uses, and unpacked into a directory of their own, that suite's libc included: nothing is installed on
the host. Interpreter and library path of the programs are rewritten, so that they run with their own
libraries while *jobs* run in the host's file system. Kept between runs; the paths in it are absolute.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUITES = {"23.9": "trixie", "25.14": "sid"}
"""Versions of HTCondor, and the Debian that has them."""

_WANTED = re.compile(
    r"condor$|patchelf$|zlib1g$|lib(?!js-|perl|python|boost-python|date-manip|debconf|pam-)"
)


def installed(version: str) -> Path:
    """The tree of one version, unpacked unless it is there already; two processes may race."""
    root = _root()
    tree = root / version
    with open(root / f"{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = tree / ".installed"
        if not (stamp.exists() and stamp.read_text() == str(tree)):
            shutil.rmtree(tree, ignore_errors=True)
            _unpack(tree, SUITES[version])
            stamp.write_text(str(tree))
    return tree


def _root() -> Path:
    """The cache directory: shared unless it belongs to a stranger, who could plant code in it."""
    root = Path(os.environ.get("PENSTOCK_TEST_CONDOR", "/var/tmp/penstock-test-condor"))
    if root.exists() and root.stat().st_uid != os.getuid():
        root = root.with_name(f"{root.name}-{os.getuid()}")
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    return root


def _unpack(tree: Path, suite: str) -> None:
    packages = tree / ".packages"
    packages.mkdir(parents=True)
    _download(tree / ".apt", suite, packages)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one: _run("dpkg", "-x", one, tree), sorted(packages.glob("*.deb"))))
    tree.chmod(0o755)
    libraries = f"{tree}/usr/lib:{tree}/usr/lib/x86_64-linux-gnu"
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    patch = [str(loader), "--library-path", libraries, f"{tree}/usr/bin/patchelf"]
    change = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", libraries]
    _run(*patch, *change, *_programs(tree))
    _run(tree / "usr/bin/condor_version", env={"CONDOR_CONFIG": "/dev/null"})
    for directory in (tree / ".apt", packages):
        shutil.rmtree(directory)


def _download(apt: Path, suite: str, into: Path) -> None:
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True)
    uri, keyring = _mirror()
    (apt / "sources.list").write_text(f"deb [signed-by={keyring}] {uri} {suite} main\n")
    (apt / "status").write_text("")  # nothing is installed: so libc is among what is needed
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
    plan = _run("apt-get", *flags, "--simulate", "install", "condor", "patchelf")
    names = [name for name in re.findall(r"^Inst (\S+)", plan, re.M) if _WANTED.match(name)]
    _run("apt-get", *flags, "download", *names, cwd=into)


def _mirror() -> tuple[str, str]:
    """Address and keyring of the Debian mirror that apt is configured with."""
    usual = "/usr/share/keyrings/debian-archive-keyring.gpg"
    parts = Path("/etc/apt/sources.list.d")
    for path in parts.glob("*.sources"):
        for stanza in path.read_text().split("\n\n"):
            uri = re.search(r"^URIs:\s*(\S+/debian)/?\s*$", stanza, re.M)
            key = re.search(r"^Signed-By:\s*(\S+)", stanza, re.M)
            if uri:
                return uri[1], key[1] if key else usual
    for path in (Path("/etc/apt/sources.list"), *parts.glob("*.list")):
        text = path.read_text() if path.exists() else ""
        match = re.search(r"^deb\s+(?:\[.*?\]\s+)?(\S+/debian)/?\s", text, re.M)
        if match:
            return match[1], usual
    return "http://deb.debian.org/debian", usual


def _programs(tree: Path) -> list[str]:
    """All dynamically linked programs."""
    found = []
    for directory in ("usr/bin", "usr/sbin", "usr/libexec"):
        for path in (tree / directory).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "patchelf":
                with path.open("rb") as file:
                    head = file.read(4096)
                if head.startswith(b"\x7fELF") and b"/ld-linux" in head:
                    found.append(str(path))
    return found


def _run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], text=True, capture_output=True, umask=0o022, **options
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr.strip()[-2000:]}"
    return done.stdout
