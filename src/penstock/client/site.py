"""How the workers of this site's clusters are submitted from a notebook.

All of it is Dask configuration, which an admin puts beside ``gateway.address``, and which variables
(``DASK_GATEWAY__HTCONDOR__SCHEDD=…``) and a ``.env`` file can set as well. ``gateway.htcondor``
holds what the server's sections of type ``htcondor`` hold, and the keys of ``Images`` besides;
``gateway.notebook.backend`` names another backend, by such a section of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import dask.config

from penstock.client.images import REGISTRY, checked, unpacked


@dataclass(frozen=True)
class Images:
    """Keys of ``gateway.htcondor`` that are about what jobs run in.

    ``image_base``: where unpacked images are, ``/cvmfs/unpacked.cern.ch``; without it ``image``
    means nothing here. ``image_registry`` and ``image``: what is taken when the user names none.
    ``container_image``: a path or address that is taken then. The others: see
    ``penstock.notebook.prepare``.
    """

    image_base: str = ""
    image_registry: str = REGISTRY
    image: str = ""
    container_image: str = ""
    apptainer: str = "apptainer"
    bind: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    python: str = ""
    node_python: str = "python3"
    proxy: bool = True

    def path(self, image: str | None, registry: str | None, container_image: str | None) -> str:
        """The image of a new cluster's workers, "" for none. Raises ValueError when it is not there."""
        if container_image or (self.container_image and not image):
            return checked(container_image or self.container_image)
        name = image or self.image
        if not name or not self.image_base:
            return ""
        return unpacked(self.image_base, registry or self.image_registry, name)

    def setup(self, image: str) -> dict[str, Any]:
        """What the process that submits is told."""
        names = ("apptainer", "bind", "options", "python", "node_python", "proxy")
        return {"image": image, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class Site:
    """``backend``: a section as in the server's ``[backends]``."""

    backend: Mapping[str, Any]
    images: Images = field(default_factory=Images)


def configured() -> Site:
    """As the Dask configuration says, and the environment as it is now."""
    section = gateway_section()
    other = (section.get("notebook") or {}).get("backend")
    given = _plain(section.get("htcondor") or {})
    known = {each.name for each in fields(Images)}
    images = Images(**{key: value for key, value in given.items() if key in known})
    if other:
        return Site(_plain(other), images)
    backend = {key: value for key, value in given.items() if key not in known}
    directory = os.environ.get("CONDOR_BIN_DIR") or _tools_in_path()
    if directory and "bin" not in backend:
        backend["bin"] = directory
    return Site({"type": "htcondor", **backend}, images)


def _tools_in_path() -> str | None:
    """Where HTCondor's tools are by this process's PATH, such as a conda environment of the user's:
    the backend looks in the system's usual directories alone, as it must on a server."""
    found = shutil.which("condor_submit")
    return None if found is None else str(Path(found).absolute().parent)


def gateway_section() -> dict[str, Any]:
    """``gateway`` of the Dask configuration; variables that were set since Dask was imported win."""
    read_dotenv()
    late = dask.config.collect_env().get("gateway") or {}
    merged: dict[str, Any] = dask.config.merge(dask.config.get("gateway", {}), late)
    return merged


def read_dotenv() -> bool:
    """Take the variables of a ``.env`` file in the working directory or above, and whether there were
    any; none that is set is changed, and without python-dotenv there are none. The file must be the
    user's own, or root's: variables name programs, and /tmp is a working directory too."""
    try:
        from dotenv import find_dotenv, load_dotenv
    except ImportError:
        return False
    path = find_dotenv(usecwd=True)
    if not path or not os.access(path, os.R_OK):
        return False
    return Path(path).stat().st_uid in (os.getuid(), 0) and load_dotenv(path)


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as Python has them: Dask takes ``image-base`` and ``image_base`` for the same."""
    return {key.replace("-", "_"): value for key, value in given.items()}
