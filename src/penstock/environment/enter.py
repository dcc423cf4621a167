"""The first thing that a job does which enters a container, or was given a grid proxy.

Runs by itself in the job's private directory, on the node's own Python from 3.6 on: only there is it
known which directory that is, and whether the image can be seen from this node at all.
"""

import json
import os
import shutil
import socket
import sys
from typing import Any

INSIDE = "/srv"
"""Where the job's directory is in the container: every image of a usual system has it."""

BROKEN = 78
"""EX_CONFIG of sysexits.h: nothing wrong with the job, but with what it runs in."""


def container_words(spec: "dict[str, Any]", here: str, missing: "list[str]") -> "list[str]":
    """The words that begin a command in a container. Bound directories that a node has not are
    left out, and noted in ``missing``: apptainer would refuse to start."""
    words = [spec["apptainer"], "exec", *spec["options"], "--bind", here + ":" + INSIDE]
    for bind in spec["bind"]:
        if os.path.exists(bind.split(":")[0]):
            words += ["--bind", bind]
        else:
            missing.append(bind)
    return [*words, "--pwd", INSIDE, spec["image"]]


def problem(spec: "dict[str, Any]") -> str:
    """Why a container cannot be entered on this node, empty when it can."""
    image = str(spec["image"])
    if shutil.which(spec["apptainer"]) is None:
        return f"there is no {spec['apptainer']}"
    if image.startswith("/") and not os.path.exists(image):
        return f"the image {image} is not there"
    return ""


def main() -> int:
    """Become the command. Returns only when that failed."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "penstock_enter.json")) as file:
        order = json.load(file)
    command, container = order["command"], order["container"]
    if container:
        why = problem(container)
        if why:
            print(f"penstock: {why} on {socket.gethostname()}", flush=True)
            return BROKEN
        missing: list[str] = []
        command = container_words(container, here, missing) + command
        for bind in missing:
            print(f"penstock: there is no {bind} here to bind", flush=True)
        # Where nobody may mount a .sif it is unpacked, and stays in /tmp when the job is killed.
        os.environ.setdefault("APPTAINER_TMPDIR", here)
    if order["proxy"]:
        place = INSIDE if container else here
        os.environ["X509_USER_PROXY"] = place + "/" + order["proxy"]
    try:
        os.execvp(command[0], command)  # noqa: S606 (that is the point)
    except OSError as error:
        print(f"penstock: cannot run {command[0]!a}: {error.strerror}", flush=True)
    return 127


if __name__ == "__main__":
    sys.exit(main())
