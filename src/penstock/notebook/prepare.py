"""A batch as the server made it, made fit for the place where a notebook submits it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penstock.model.job import Batch


def for_account(batch: Batch, name: str, home: str) -> Batch:
    """The jobs are this account's here, whatever the gateway calls their user."""
    own: Mapping[str, str] = {"USER": name, "LOGNAME": name, "HOME": home}
    return replace(batch, env={**batch.env, **own})
