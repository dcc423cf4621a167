"""A batch as the server made it, made fit for the place where a notebook submits it.

``setup`` of an order, all of it optional: ``image`` (what the notebook's user chose; else the extra
``container_image`` that came from the server), ``apptainer``, ``bind``, ``options`` (see
``penstock.environment.container``), ``python`` (of the jobs), ``node_python`` (of the nodes), and
``proxy``, false when the user's X.509 proxy shall not travel.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.client.proxy import expiry, find_proxy
from penstock.environment.container import Container, enter
from penstock.model.errors import Unavailable
from penstock.model.job import Batch

IMAGE = "container_image"
"""The extra that names an image."""


def prepare(batch: Batch, setup: Mapping[str, Any], name: str, home: str) -> Batch:
    """For the account ``name`` here, in the image, with the proxy. Raises Unavailable for a proxy
    that cannot be used now."""
    own = {"USER": name, "LOGNAME": name, "HOME": home}
    extras = dict(batch.extras)
    image = setup.get("image") or extras.pop(IMAGE, None)
    extras.pop(IMAGE, None)
    batch = replace(batch, env={**batch.env, **own}, extras=extras)
    path = find_proxy() if setup.get("proxy", True) else None
    proxy = read_proxy(path) if path else None
    command = _command(batch.command, setup.get("python"), bool(image))
    if not image and proxy is None:
        return replace(batch, command=command)
    container = None
    if image:
        kept = {key: setup[key] for key in ("apptainer", "bind", "options") if setup.get(key)}
        container = Container(str(image), **kept)
    words, files = enter(command, container, proxy, python=setup.get("node_python") or "python3")
    return replace(batch, command=words, files={**batch.files, **files})


def _command(command: tuple[str, ...], python: str | None, inside: bool) -> tuple[str, ...]:
    """With the Python that is meant here: a path on the gateway's machine means nothing in an image."""
    if python:
        return (python, *command[1:])
    if inside and command[0].startswith("/"):
        return ("python3", *command[1:])
    return command


def read_proxy(path: Path) -> bytes:
    """The proxy as it is now; it is read for every batch, since users renew them."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"the X.509 proxy {path} cannot be read: {error.strerror}") from None
    ends = expiry(data)
    if ends is not None and ends <= time.time():
        raise Unavailable(f"the X.509 proxy {path} has expired; renew it (voms-proxy-init)")
    return data
