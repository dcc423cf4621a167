"""Programs of a later Debian than the one that the tests run on, in a directory of their own.

The packages are fetched from the mirror that apt uses, and unpacked with all that they need, that
suite's libc included: nothing is installed on the host. Interpreter and library path of the programs
are rewritten, so that they run with their own libraries in the host's file system. Kept between runs;
the paths in such a tree are absolute.

A mirror may be away for a moment, or change between its index and a package: everything is tried
again from its index on. A suite may lack a package for days (sid, above all): then the next one is taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PUBLIC = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Of the package debian-archive-keyring."""

PAUSES = (5, 20)
"""Seconds before another attempt."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where packages come from, and the file with the keys that they are signed by."""

    uri: str
    keyring: str


def cache(variable: str, name: str) -> Path:
    """A directory that is kept between runs, ``/var/tmp/NAME`` unless an environment variable says
    otherwise: shared unless it belongs to a stranger, who could plant code in it."""
    root = Path(os.environ.get(variable, f"/var/tmp/{name}"))
    if root.exists() and root.stat().st_uid != os.getuid():
        root = root.with_name(f"{root.name}-{os.getuid()}")
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    return root


def unpacked(tree: Path, make: Callable[[Path], None], contents: str = "") -> Path:
    """``tree`` as ``make`` fills it with ``contents``, unless just that is there already; two
    processes may race."""
    with open(tree.parent / f"{tree.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, words = tree / ".installed", f"{tree} {contents}".strip()
        if not (stamp.exists() and stamp.read_text() == words):
            shutil.rmtree(tree, ignore_errors=True)
            make(tree)
            stamp.write_text(words)
    return tree


def fetch(
    tree: Path, suites: Sequence[str], packages: Sequence[str], wanted: re.Pattern[str]
) -> None:
    """Unpack these packages of the first suite that has them, and of what they need what ``wanted``
    matches."""
    failures: list[str] = []
    for pause in (0, *PAUSES):
        time.sleep(pause)
        for mirror in mirrors(Path("/etc/apt")):
            for suite in suites:
                place = tree / ".packages"
                try:
                    _download(place, mirror, suite, packages, wanted)
                except AssertionError as error:
                    failures.append(f"{mirror.uri} {suite}: {error}")
                    shutil.rmtree(place)
                    continue
                _unpack(place, tree)
                shutil.rmtree(place)
                return
    told = "\n".join(dict.fromkeys(failures))
    raise AssertionError(f"{', '.join(packages)} cannot be had from Debian:\n{told}")


def _download(
    place: Path, mirror: Mirror, suite: str, packages: Sequence[str], wanted: re.Pattern[str]
) -> None:
    for name in ("lists/partial", "archives/partial"):
        (place / ".apt" / name).mkdir(parents=True)
    assert Path(mirror.keyring).exists(), "install the package debian-archive-keyring"
    apt = place / ".apt"
    (apt / "sources.list").write_text(
        f"deb [arch=amd64 signed-by={mirror.keyring}] {mirror.uri} {suite} main\n"
    )
    (apt / "status").write_text("")  # nothing is installed: so libc is among what is needed
    options = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Install-Recommends": "0",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    run("apt-get", *flags, "update")
    plan = run("apt-get", *flags, "--simulate", "install", *packages)
    names = [name for name in re.findall(r"^Inst (\S+)", plan, re.M) if wanted.match(name)]
    run("apt-get", *flags, "download", *names, cwd=place)


def _unpack(packages: Path, tree: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one: run("dpkg", "-x", one, tree), sorted(packages.glob("*.deb"))))
    tree.chmod(0o755)


def elf_programs(tree: Path) -> list[Path]:
    """All dynamically linked programs, but ``patchelf``."""
    found = []
    for directory in ("usr/bin", "usr/sbin", "usr/libexec"):
        for path in (tree / directory).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "patchelf":
                with path.open("rb") as file:
                    head = file.read(4096)
                if head.startswith(b"\x7fELF") and b"/ld-linux" in head:
                    found.append(path)
    return found


def relink(tree: Path, programs: Iterable[str | Path], *more: str) -> None:
    """Let these programs run with the libraries of their tree, which has ``patchelf``. ``more``:
    other directories in it with libraries."""
    places = ("usr/lib", "usr/lib/x86_64-linux-gnu", *more)
    libraries = ":".join(f"{tree}/{place}" for place in places)
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    patch = [str(loader), "--library-path", libraries, f"{tree}/usr/bin/patchelf"]
    change = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", libraries]
    run(*patch, *change, *programs)


# --- what apt is configured with ---------------------------------------------------------------


def mirrors(apt: Path) -> list[Mirror]:
    """Those of Debian that apt is configured with (below ``apt``), and the public one."""
    found: list[Mirror] = []
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += _of_stanzas(path.read_text())
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))):
        with contextlib.suppress(FileNotFoundError):
            found += _of_lines(path.read_text())
    return list(dict.fromkeys([*found, Mirror(PUBLIC, KEYRING)]))


def _of_stanzas(text: str) -> Iterator[Mirror]:
    """deb822, see sources.list(5). Keys that stand in the file itself are taken for Debian's."""
    for stanza in re.split(r"\n\s*\n", text):
        uris = re.search(r"^URIs:[ \t]*(.*)$", stanza, re.M)
        key = re.search(r"^Signed-By:[ \t]*(/\S+)", stanza, re.M)
        if uris and not re.search(r"^Enabled:[ \t]*(no|false)\b", stanza, re.M | re.I):
            yield from _of_debian(uris[1].split(), key[1] if key else KEYRING)


def _of_lines(text: str) -> Iterator[Mirror]:
    for options, uri in re.findall(r"^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s", text, re.M):
        key = re.search(r"signed-by=(/\S+)", options)
        yield from _of_debian([uri], key[1] if key else KEYRING)


def _of_debian(uris: Sequence[str], keyring: str) -> Iterator[Mirror]:
    """Not those of its security updates, of other distributions and of programs by themselves."""
    for uri in uris:
        if re.search(r"/debian/*$", uri):
            yield Mirror(uri.rstrip("/"), keyring)


def run(*command: str | Path, **options: object) -> str:
    """What a command says. Raises AssertionError with its complaints."""
    done = subprocess.run(
        [str(word) for word in command],
        text=True,
        capture_output=True,
        umask=0o022,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr.strip()[-2000:]}"
    return str(done.stdout)
