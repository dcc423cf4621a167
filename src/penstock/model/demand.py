"""What a backend may be asked for by a profile's users, before anybody does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.job import Resources


@dataclass(frozen=True, slots=True)
class Demand:
    """Jobs of one kind. ``name``: for people. ``most``: the largest that a user may ask for.
    ``env``: their variables, for the user who was asked for."""

    name: str
    python: str
    resources: Resources
    most: Resources
    extras: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
