"""Container images with a Python of their own: a directory, and the same as a .sif file.

Made of what lies on this machine, without any network: the system's Python with its libraries, a
shell, and of the jobs' environment what a worker needs. That environment lies in the image at a path
that no machine has, so that what runs with it runs in the image. Kept between runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rigs.apptainer_install import apptainer
from rigs.environments import environment

PYTHON = "/opt/dask/bin/python"
"""In the images."""

_PLACES = ("srv", "tmp", "var/tmp", "proc", "sys", "dev", "etc", "home", "root", "usr/sbin")
_TOOLS = ("sh", "chmod", "sleep")
_USELESS = shutil.ignore_patterns(  # for a worker; half a minute of packing and unpacking
    *("bokeh*", "numpy*", "pandas*", "PIL", "pillow*", "pip*", "setuptools*", "pkg_resources"),
    *("narwhals*", "contourpy*", "xyzservices*", "aiohttp*", "dask_gateway*", "config-*", "tests"),
    *("test", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "turtledemo"),
)


def image_directory() -> Path:
    """An unpacked image, as they lie in /cvmfs/unpacked.cern.ch. Made when missing."""
    return _image()


def image_file() -> Path:
    """The same image as a .sif file. Made when missing."""
    return _image().with_suffix(".sif")


def universe(tree: Path) -> str:
    """Settings with which the HTCondor in ``tree`` has a container universe."""
    images = _image().parent
    trial = tree / "usr/libexec/condor"
    with open(images / "trial.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (trial / "exit_37.sif").exists():  # Debian's package has the directory alone
            _build(trial / "singularity_test_sandbox", trial / "exit_37.sif")
        # HTCondor tries it out as root, who in a virtual machine may lack what apptainer would keep.
        start = images / "singularity"
        words = f"APPTAINER_NO_PRIVS=1 APPTAINER_CONFIGDIR={images}/config"
        start.write_text(f'#!/bin/sh\n{words} exec {apptainer()} "$@"\n')
        start.chmod(0o755)
    return f"SINGULARITY = {start}"


def _image() -> Path:
    environ = environment("new").parents[1]
    root = apptainer().parents[1] / "images"
    root.mkdir(mode=0o755, exist_ok=True)
    place = root / environ.name
    with open(root / f"{environ.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.with_suffix(".sif").exists():
            bare = place.with_suffix(".bare")
            for old in (place, bare):
                shutil.rmtree(old, ignore_errors=True)
            _fill(bare, environ)
            _build(bare, place, "--sandbox")  # adds what HTCondor tries each image by
            _build(place, place.with_suffix(".sif"))
            shutil.rmtree(bare)
    return place


def _fill(place: Path, environ: Path) -> None:
    for name in _PLACES:
        (place / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (place / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf", "localtime"):
        (place / "etc" / name).touch()
    ask = "import os, sys, sysconfig; print(os.path.realpath(sys.executable), sysconfig.get_path('stdlib'))"
    python, stdlib = _run(str(environ / "bin/python"), "-c", ask).split()
    shutil.copytree(stdlib, f"{place}{stdlib}", symlinks=True, ignore=_USELESS)
    tools = [shutil.which(name, path="/usr/bin") or name for name in _TOOLS]
    inside = Path(f"{place}{PYTHON}").parents[1]
    shutil.copytree(environ, inside, symlinks=True, ignore=_USELESS)
    compiled = [*Path(stdlib).glob("lib-dynload/*.so"), *inside.rglob("*.so")]
    for path in {python, *tools, *_libraries(python, *tools, *map(str, compiled))}:
        _copy(path, place)
    (inside / "bin/python3").unlink()
    (inside / "bin/python3").symlink_to(python)
    _run("chmod", "-R", "a+rX", str(place))


def _libraries(*programs: str) -> set[str]:
    """The system's, that these need."""
    return set(re.findall(r"(/(?:usr/)?lib\S+) \(0x", _run("ldd", *programs)))


def _copy(path: str, place: Path) -> None:
    """To the same path; ``/lib`` is ``/usr/lib``, here as there."""
    target = Path(f"{place}/usr{path.removeprefix('/usr')}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _build(image: Path, into: Path, *options: str) -> None:
    """One image from another, quickly rather than small."""
    options += ("--mksquashfs-args", "-comp zstd -Xcompression-level 1")
    made, cache = into.with_suffix(".new"), into.with_suffix(".cache")
    kept = {"TMPDIR": into.parent, "CACHEDIR": cache, "CONFIGDIR": cache}  # none at home
    _run(str(apptainer()), "build", "--force", *options, str(made), str(image), places=kept)
    shutil.rmtree(cache, ignore_errors=True)
    _run("chmod", "a+rX", str(made))
    made.rename(into)


def _run(*command: str, places: Mapping[str, Path] = MappingProxyType({})) -> str:
    """``places``: Apptainer's."""
    environ = {f"APPTAINER_{name}": str(place) for name, place in places.items()}
    done = subprocess.run(
        command, capture_output=True, text=True, umask=0o022, env={**os.environ, **environ}
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
    return done.stdout
