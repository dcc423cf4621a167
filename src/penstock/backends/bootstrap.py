"""The first thing that a job's own Python does: unpack what came with it, become the command.

Not in shell: no shell can set every environment variable byte for byte (``BASH_FUNC_module%%``), and
whatever ``env`` is given on its command line can be read by everybody on the node. Runs by itself, on
any Python from 3.6 on, with nothing but the standard library, as ``python -I -S -c SOURCE``.
"""

import base64
import json
import os
import signal
import sys
import zlib


def raw(text: str) -> bytes:
    """Bytes that travel as the code points 0 to 255."""
    return text.encode("latin-1")


NOT_TAKEN = (b"_", b"SHLVL", b"PWD", b"OLDPWD", b"PENSTOCK_PROLOG", b"PENSTOCK_FAILED")


def read_env(path: bytes) -> "dict[bytes, bytes]":
    """An environment as ``env -0`` wrote it."""
    with open(path, "rb") as file:
        entries = file.read().split(b"\0")
    return {name: value for name, _, value in (entry.partition(b"=") for entry in entries if entry)}


def take_changes(directory: bytes, env: "dict[bytes, bytes]") -> None:
    """Let what a prolog changed, from the file ``before`` to the file ``after``, reach the job.

    It knows the node, so it wins, but what it adds to a search path is added to the job's own.
    """
    old = read_env(os.path.join(directory, b"before"))
    for name, value in read_env(os.path.join(directory, b"after")).items():
        was, own = old.get(name), env.get(name)
        if value == was or name in NOT_TAKEN:
            continue
        if own and name.endswith(b"PATH"):
            value = value.replace(was, own, 1) if was and was in value else value + b":" + own
        env[name] = value


def share(devices: bytes, place: int, workers: int) -> bytes:
    """The devices of one of several workers of a job, of a list like ``0,1,2,3``."""
    names = devices.split(b",")
    each = len(names) // workers
    return b",".join(names[place * each : (place + 1) * each])


def main(directory: str, tag: str, index: str) -> int:
    """Unpack into ``directory``, then run the command there. Returns only when that failed."""
    payload = json.loads(zlib.decompress(base64.b64decode(sys.stdin.buffer.read())).decode())
    os.mkdir(directory, 0o700)
    os.chdir(directory)
    for name, content in payload["files"].items():
        with os.fdopen(
            os.open(raw(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(raw(content))
    env = {raw(name): raw(value) for name, value in payload["env"].items()}
    given = os.environb
    place, workers = int(given.get(b"PENSTOCK_PLACE", 0)), int(given.get(b"PENSTOCK_WORKERS", 1))
    if b"PENSTOCK_PROLOG" in given:
        take_changes(given[b"PENSTOCK_PROLOG"], env)
    for name in map(raw, payload["devices"]):
        if name in given:  # which GPUs are this job's only the batch system knows
            env[name] = share(given[name], place, workers)
    if workers > 1:
        env[b"PENSTOCK_WORKERS"] = b"%d" % workers
    env[b"PENSTOCK_TAG"] = tag.encode()
    env[b"PENSTOCK_INDEX"] = index.encode()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, programs expect them
        signal.signal(number, signal.SIG_DFL)
    command = [raw(word) for word in payload["command"]]
    if given.get(b"PENSTOCK_FAILED"):  # the command is only to tell; its own Python may be missing
        env[b"PENSTOCK_FAILED"] = given[b"PENSTOCK_FAILED"]
        command[0] = os.fsencode(sys.executable)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 (that is the point)
    except OSError as error:
        sys.stderr.write(f"penstock: cannot run {command[0]!a}: {error.strerror}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
