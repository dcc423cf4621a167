"""Sections about batch systems: one table each, told apart by ``type``.

A new kind of backend adds its class here and joins the union ``BackendSettings``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from penstock.settings.base import AbsolutePath, Section
from penstock.settings.units import Duration


class LocalBackendSettings(Section):
    """Processes on the gateway's own machine."""

    type: Literal["local"] = Field(description="`local`: processes on this machine.")
    period: Duration = Field(
        default=2.0,
        description="How often the machine's processes are looked at when all is quiet.",
    )
    directory: AbsolutePath | None = Field(
        default=None,
        description="Where jobs get their private directories. Not set: below the state directory, "
        "or /var/lib/penstock-jobs when the jobs run as many users.",
    )


BackendSettings = LocalBackendSettings
