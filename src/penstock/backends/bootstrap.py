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
    for name in map(raw, payload["devices"]):
        if name in os.environb:  # which GPUs are this job's only Slurm knows
            env[name] = os.environb[name]
    env[b"PENSTOCK_TAG"] = tag.encode()
    env[b"PENSTOCK_INDEX"] = index.encode()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, programs expect them
        signal.signal(number, signal.SIG_DFL)
    command = [raw(word) for word in payload["command"]]
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 (that is the point)
    except OSError as error:
        sys.stderr.write(f"penstock: cannot run {command[0]!a}: {error.strerror}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
