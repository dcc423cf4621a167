"""A command in a container, and a grid proxy that travels with it, as files of the job. Pure.

Not HTCondor's container universe: it needs an administrator's consent on every machine and finds
images by its own rules, while Fermilab's nodes have apptainer on CVMFS for everybody to call.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

ENTER = "penstock_enter.py"
ORDER = "penstock_enter.json"
PROXY = "x509up"


@dataclass(frozen=True, slots=True)
class Container:
    """An image (a .sif file, an unpacked directory, or ``docker://…``), and how it is entered.

    ``bind``: directories of the node, each ``/path`` or ``/path:/inside``, with apptainer's
    ``:ro`` where wanted. ``options``: more options of ``apptainer exec``.
    """

    image: str
    apptainer: str = "apptainer"
    bind: Sequence[str] = ()
    options: Sequence[str] = ()


def enter(
    command: Sequence[str],
    container: Container | None,
    proxy: bytes | None,
    *,
    python: str = "python3",
) -> tuple[tuple[str, ...], Mapping[str, bytes]]:
    """(command, files besides the job's own) that run ``command`` in a container and with a proxy.

    ``python``: the node's own, 3.6 or newer. No shell sees any of it.
    """
    order = {
        "command": list(command),
        "container": asdict(container) if container else None,
        "proxy": PROXY if proxy is not None else "",
    }
    source = importlib.resources.files(__package__).joinpath("enter.py").read_bytes()
    files = {ENTER: source, ORDER: json.dumps(order).encode()}
    if proxy is not None:
        files[PROXY] = proxy
    return (python, ENTER), files
