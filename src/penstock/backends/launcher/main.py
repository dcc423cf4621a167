"""The launcher's one life: detach, start, answer, watch."""

from __future__ import annotations

import ctypes
import json
import os
import sys

from penstock.backends.launcher.request import Refusal, Request
from penstock.backends.launcher.start import launch
from penstock.backends.launcher.watch import oom_kills, watch

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def main() -> None:
    """Detach from whoever started us, start the jobs, answer, and stay until they ended."""
    if os.fork():
        os._exit(0)  # the real launcher is a grandchild, for which nobody needs to wait
    os.umask(0o077)
    request = Request(sys.stdin.buffer.read())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    oom = oom_kills()
    try:
        journal, jobs = launch(request)
    except Refusal as refusal:
        answer({"ok": False, "kind": refusal.kind, "text": str(refusal)})
        return
    notice = request.socket
    del request
    answer({"ok": True})
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    watch(jobs, journal, notice, oom)


def answer(message: dict[str, object]) -> None:
    """Tell the server, which may be gone: then nobody asks."""
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except OSError:
        return
