"""What the packages of other sites have hard-coded, made true for a while: paths, commands, a pool.

``htcdaskgateway`` of Fermilab knows absolute paths of its site and no others; on a machine that has
them in earnest, its tests cannot run. HTCondor's jobs see the same paths, so a private mount
namespace would not do. Apptainer is a stand-in in both: it puts what the image should have into PATH, and
replaces the paths that it should have bound. The pool's machine does not say that it has containers (it
looked for them when it started), so the schedd takes that wish from the jobs.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from rigs.condor import Condor

CVMFS = Path("/cvmfs")
SCRATCH = Path("/uscmst1b_scratch")
COMMANDS = Path("/usr/local/bin")
APPTAINER = "oasis.opensciencegrid.org/mis/apptainer/current/bin/apptainer"
IMAGE = "registry.hub.docker.com/coffeateam/coffea-base-almalinux8:0.7.22-py3.10"

_STAND_IN = """#!/bin/bash
# apptainer exec -B <from>:<to> … <image> <command> …, where <from> shows up at <to>.
[ "$1" = exec ] || exit 64
shift
binds=()
while [ "$1" = -B ]; do binds+=("$2"); shift 2; done
image=$1; shift
words=()
for word in "$@"; do
  for bind in "${binds[@]}"; do
    to=${bind##*:}; from=$(realpath "${bind%:*}")
    word=${word//${to%/}/$from}
  done
  words+=("$word")
done
export PATH="$(realpath "$image/bin"):/usr/bin:/bin"  # an image's name has colons
exec "${words[@]}"
"""

_STARTERS_STAND_IN = """#!/bin/bash
# apptainer --version, or as HTCondor's starter calls it: [options] test|exec [options] <image> <command> …
[ "$1" = --version ] && exec echo "apptainer version 1.3.4"
while [ $# -gt 0 ]; do
  [ "$1" = test ] && exit 0
  case "$1" in *.sif) break;; esac
  shift
done
shift
export PATH={bin}:/usr/bin:/bin
exec "$@"
"""

_COMMAND = """#!/bin/sh
CONDOR_CONFIG={config}; export CONDOR_CONFIG
exec {bin}/{name} "$@"
"""


@contextlib.contextmanager
def fermilab(condor: Condor, python: Path, directory: Path) -> Iterator[None]:
    """The paths of Fermilab's analysis cluster; its image is the environment of ``python``."""
    with open("/tmp/penstock-third-party.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made: list[Path] = []
        try:
            _link(CVMFS, directory / "cvmfs", made)
            _link(SCRATCH, directory / "scratch", made)
            users = SCRATCH / "lpc1" / "3DayLifetime"
            users.mkdir(parents=True)
            users.chmod(0o777)
            image = CVMFS / "unpacked.cern.ch" / IMAGE
            image.mkdir(parents=True)
            (image / "bin").symlink_to(python.parent)
            apptainer = CVMFS / APPTAINER
            apptainer.parent.mkdir(parents=True)
            _program(apptainer, _STAND_IN)
            for name in ("condor_submit", "condor_q"):
                assert not (COMMANDS / name).exists(), f"this machine has {COMMANDS / name}"
                made.append(COMMANDS / name)
                text = _COMMAND.format(config=condor.config, bin=condor.bin, name=name)
                _program(made[-1], text)
            yield
        finally:
            for path in made:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def containers(condor: Condor, python: Path, directory: Path) -> Iterator[None]:
    """The pool takes jobs for a container; every image is the environment of ``python``."""
    program = directory / "apptainer"
    _program(program, _STARTERS_STAND_IN.format(bin=python.parent))
    before = condor.config.read_text()
    condor.config.write_text(
        before
        + f"""
SINGULARITY = {program}
JOB_TRANSFORM_NAMES = AnyMachine
JOB_TRANSFORM_AnyMachine @=end
REQUIREMENTS ContainerImage =!= undefined
SET Requirements true
@end
"""
    )
    condor.run("condor_reconfig", "-schedd")
    try:
        yield
    finally:
        condor.config.write_text(before)
        condor.run("condor_reconfig", "-schedd")


def _link(path: Path, target: Path, made: list[Path]) -> None:
    """A path at the root of the file system; one that a killed session left is replaced."""
    if path.is_symlink() and not path.exists():
        path.unlink()
    assert not path.exists(), f"this machine has {path}"
    target.mkdir()
    target.chmod(0o755)
    path.symlink_to(target)
    made.append(path)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
