"""Runs a command that can write to one directory and nowhere else: ``python fence.py DIR COMMAND …``.

For programs that write where somebody else tells them to, with the gateway's rights: what
``condor_transfer_data`` fetches goes where the job's ad says, and the job's owner may edit that.
A look at the ad before would come too early, so the kernel itself keeps watch (Landlock, Linux 5.13;
landlock(7)). Directories may also be made and removed in /tmp, by which HTCondor's FS method proves
who somebody is.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

NO_FENCE = 96
"""Exit code when this kernel cannot do it: the command was not run."""

LARGEST = 256 * 2**20
"""Bytes of a file that is written; the command ends at more."""

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on all of Linux's architectures
_VERSION = 1
_BENEATH = 1
_NO_NEW_PRIVS = 38

_WRITE, _REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 1, 1 << 4, 1 << 5, 1 << 7, 1 << 8
_MAKE_OTHERS = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12  # devices, sockets, pipes, links
_TRUNCATE = 1 << 14  # since version 3

_libc = ctypes.CDLL(None, use_errno=True)


def words(directory: str, command: str) -> tuple[str, ...]:
    """How to start a command (its path) that can write to ``directory`` alone."""
    return sys.executable, "-I", "-S", __file__, directory, command


def available() -> bool:
    """Whether this machine's kernel has Landlock, and it is turned on."""
    return _version() >= 1


def _version() -> int:
    return int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)))


def confine(directory: str) -> None:
    """Let this process, and all that it starts, write below ``directory`` alone. Raises OSError."""
    truncate = _TRUNCATE if _version() >= 3 else 0
    files = _WRITE | _REMOVE_FILE | _MAKE_FILE | truncate
    folders = _REMOVE_DIR | _MAKE_DIR
    watched = struct.pack("=Q", files | folders | _MAKE_OTHERS)
    rules = _call(_CREATE, watched, ctypes.c_size_t(len(watched)), ctypes.c_uint(0))
    for path, rights in (
        (directory, files | folders),
        ("/dev/null", _WRITE | truncate),
        ("/tmp", folders),  # noqa: S108 (where FS looks, and only that)
    ):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights, handle)
        _call(_ADD, ctypes.c_int(rules), ctypes.c_int(_BENEATH), rule, ctypes.c_uint(0))
        os.close(handle)
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def _call(number: int, *arguments: object) -> int:
    done = int(_libc.syscall(number, *arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return done


def main() -> None:
    """Become the command behind the fence."""
    directory, *command = sys.argv[1:]
    try:
        confine(directory)
    except OSError as error:
        print(f"this kernel cannot fence it in: {error}", file=sys.stderr)
        sys.exit(NO_FENCE)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if hard == resource.RLIM_INFINITY or hard > LARGEST:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    os.execv(command[0], command)  # noqa: S606 (no shell)


if __name__ == "__main__":
    main()
