"""From a fork of the launcher to the user's program."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
from typing import NoReturn

from penstock.backends.launcher.request import REJECTED, Refusal, Request, refusal

LOG = "output.log"
_FILES = 65536
"""Open files that a job may have, if the machine allows: a scheduler has many connections."""


def child(request: Request, index: int, status: int, gate: int) -> NoReturn:
    """Become the user, write the files, wait at the gate, run the program."""

    def say(word: str, kind: str = "", text: str = "") -> None:
        os.write(status, json.dumps([word, str(index), kind, text[:500]]).encode() + b"\n")

    try:
        detach(request)
        try:
            become(request)
            enter(request, index)
            program = find_program(request)
        except Refusal as error:
            say("failed", error.kind, str(error))
            os._exit(1)
        say("ready")
        if not os.read(gate, 1):
            os._exit(1)  # the launcher died, and nothing is on record
        try:
            os.execve(program, request.command, environment(request, index))  # noqa: S606
        except OSError as error:
            failed = exec_refusal(error, request, program)
            os.write(2, f"{failed}\n".encode("utf-8", "surrogateescape"))
            say("failed", failed.kind, str(failed))
    finally:
        os._exit(126)


def detach(request: Request) -> None:
    """An own session, default signals, modest rights."""
    os.setsid()
    # Whoever started the server may have had it ignore some, as a shell does in the background.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):  # some belong to the C library
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the token
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if request.nice:
        os.nice(request.nice)
    try:
        # When memory runs out, a job shall die before the server does.
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("300")
    except OSError:
        return


def become(request: Request) -> None:
    """Give up the server's identity for the user's, for good."""
    if request.identity is None:
        return
    uid, gid = request.identity
    try:
        os.setgroups(request.groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise refusal(error, f"jobs cannot be started as user {request.owner}") from error
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise Refusal(REJECTED, f"jobs cannot be started as user {request.owner}")


def enter(request: Request, index: int) -> None:
    """Into the job's directory, by its full path as the user, and write its files there."""
    path = os.path.join(request.directory, str(index).encode())
    try:
        os.chdir(path)
    except OSError as error:
        what = f"{os.fsdecode(path)} cannot be entered by user {request.owner}"
        raise refusal(error, what) from error
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    name = b""
    try:
        for name, content in request.files.items():
            descriptor = os.open(name, flags, 0o600)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.close(descriptor)
        name = LOG.encode()
        log = os.open(name, flags | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
    except OSError as error:
        what = f"{os.fsdecode(os.path.join(path, name))} cannot be written"
        raise refusal(error, what) from error


def find_program(request: Request) -> bytes:
    """The program's path, looked up as the user. Raises Refusal that says what is in the way."""
    name = request.command[0]
    if b"/" in name:
        check_program(name, request.owner)
        return name
    search = request.env.get(b"PATH", os.defpath.encode())
    for directory in search.split(b":"):
        path = os.path.join(directory, name)
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    shown, where = os.fsdecode(name), os.fsdecode(search)
    raise Refusal(REJECTED, f"{shown} does not exist on this machine (looked in {where})")


def check_program(path: bytes, owner: str) -> None:
    """That this user can run it."""
    shown = os.fsdecode(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Refusal(REJECTED, f"{shown} does not exist on this machine") from None
    except OSError as error:
        raise refusal(error, f"{shown} cannot be executed by user {owner}") from error
    if (mode & 0o170000) != 0o100000:
        raise Refusal(REJECTED, f"{shown} is not a file, so it cannot be executed")
    if not os.access(path, os.X_OK):
        denied = os.strerror(errno.EACCES)
        raise Refusal(REJECTED, f"{shown} cannot be executed by user {owner}: {denied}")


def exec_refusal(error: OSError, request: Request, program: bytes) -> Refusal:
    """Why the kernel did not run a program that is there."""
    shown = os.fsdecode(program)
    if error.errno == errno.ENOENT:
        text = f"{shown} exists, but the interpreter that its first line names does not"
        return Refusal(REJECTED, text)
    if error.errno == errno.E2BIG:
        return Refusal(REJECTED, f"environment and arguments of {shown} are too long together")
    return refusal(error, f"{shown} cannot be executed by user {request.owner}")


def environment(request: Request, index: int) -> dict[bytes, bytes]:
    """Exactly what was asked for, and the job's name, first so that it is found quickly."""
    own = {b"PENSTOCK_TAG": request.tag.encode(), b"PENSTOCK_INDEX": str(index).encode()}
    return own | request.env | own
