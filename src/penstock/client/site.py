"""How the workers of this site's clusters are submitted from a notebook.

From the Dask configuration, which an admin puts beside ``gateway.address``:
``gateway.htcondor`` holds what is told to HTCondor, ``gateway.notebook.backend`` any other backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dask.config


@dataclass(frozen=True)
class Site:
    """``backend``: a section as in the server's ``[backends]``. ``setup``: what is done to each
    batch before it is submitted, see ``penstock.notebook.prepare``."""

    backend: Mapping[str, Any]
    setup: Mapping[str, Any] = field(default_factory=dict)


def configured() -> Site:
    """As the Dask configuration says."""
    other = dask.config.get("gateway.notebook.backend", None)
    if other:
        return Site(dict(other))
    return Site({"type": "htcondor", **dask.config.get("gateway.htcondor.backend", {})})
