"""The section of the backend ``notebook``: jobs that users' own notebooks submit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from penstock.settings.base import Section
from penstock.settings.units import Duration


class NotebookBackendSettings(Section):
    """Jobs that users submit themselves: their notebooks do it for the gateway (`HTCGateway`)."""

    type: Literal["notebook"] = Field(
        description="`notebook`: jobs that a user's notebook submits, with the user's credentials."
    )
    period: Duration = Field(
        default=5.0, description="How often the notebooks are asked for their jobs."
    )
    timeout: Duration = Field(
        default=90.0, description="How long a notebook may take to submit a batch or to end jobs."
    )
    visibility: Duration = Field(
        default=30.0,
        description="How long after an unclear submission its jobs may still show up before they "
        "are submitted again.",
    )
    max_batch: int = Field(
        default=500,
        gt=0,
        le=10_000,
        description="The most workers that are submitted at once. Not more than the notebooks' batch "
        "system takes: Slurm's MaxArraySize, 500 on one machine.",
    )
    grace: Duration = Field(
        default=300.0,
        description="How long a notebook may be away, without having said goodbye, until its "
        "cluster is stopped.",
    )
