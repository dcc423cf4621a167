"""The job of the contract tests: says what it was given, then waits to be told how to end.

Runs on any Python 3.8+ with nothing else. In its directory it writes ``seen.json``, and waits for
a file ``end`` that holds an exit code (a negative one: the signal to end by).
"""

import base64
import json
import os
import signal
import sys
import time


def text(data):
    return base64.b64encode(data).decode()


def environment():
    """As the kernel was given it: Python may have added LC_CTYPE to its own (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:
        entries = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    return {text(key): text(value) for key, _, value in entries}


def main():
    files = {}
    for name in os.listdir("."):
        with open(name, "rb") as file:
            files[name] = [os.stat(name).st_mode & 0o7777, text(file.read())]
    umask = os.umask(0o077)
    seen = {
        "env": environment(),
        "files": files,
        "pid": os.getpid(),
        "session": os.getsid(0),
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": sorted(os.getgroups()),
        "umask": umask,
        "directory": os.getcwd(),
        "mode": os.stat(".").st_mode & 0o7777,
        "arguments": sys.argv[1:],
        "input": text(sys.stdin.buffer.read()),
        "nice": os.nice(0),
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    }
    sys.stdout.write("out of {}\n".format(os.environ["PENSTOCK_INDEX"]))
    sys.stdout.flush()
    sys.stderr.buffer.write(b"err \xff\n")
    sys.stderr.flush()
    with open("seen.new", "w") as file:
        json.dump(seen, file)
    os.rename("seen.new", "seen.json")
    if "children" in sys.argv:
        family()
    while True:
        try:
            with open("end") as file:
                code = int(file.read())
            break
        except (OSError, ValueError):
            time.sleep(0.01)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def family():
    """Children of every kind: plain, in a new session, orphaned, deaf to SIGTERM, without our tag."""
    pids = []
    for kind in ("plain", "session", "orphan", "deaf"):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            if kind in ("session", "orphan"):
                os.setsid()
            if kind == "orphan" and os.fork():
                os._exit(0)
            if kind == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(into, b"%d" % os.getpid())
            os.close(into)
            os.close(out)
            environ = dict(os.environ) if kind != "deaf" else {}
            os.execve("/bin/sleep", ["sleep", "1000"], environ)
        os.close(into)
        pids.append(int(os.read(out, 32)))
        os.close(out)
        if kind == "orphan":
            os.waitpid(child, 0)
    with open("family.new", "w") as file:
        json.dump(pids, file)
    os.rename("family.new", "family.json")


main()
