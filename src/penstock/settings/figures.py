"""Sections about a batch system's own numbers: how often they are asked for, and how many there are.

What a batch system tells of everybody must stay bounded: one look a period, and as many series as
an admin says, however many users there are.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from penstock.settings.base import Name, Section
from penstock.settings.units import Pace

Label = Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f,]{1,256}$")]


class FigureSettings(Section):
    """Numbers of everybody's jobs for Prometheus."""

    period: Pace = Field(
        default=60.0, description="How often everybody's jobs are counted. 0: never."
    )
    users: int = Field(
        default=50,
        gt=0,
        le=10_000,
        description="How many users are shown by name: those with the most cores. The others are "
        "added up as `(others)`.",
    )


class PredictSettings(Section):
    """A place for which a wait is predicted, besides those that profiles name."""

    partition: Label | None = Field(default=None, description="Not set: Slurm's default.")
    account: Label | None = Field(default=None, description="Not set: the asking user's default.")
    qos: Label | None = Field(default=None, description="Not set: the account's default.")


class SlurmFigureSettings(FigureSettings):
    """Slurm's own numbers for Prometheus: everybody's jobs, and how long a new one would wait."""

    predict_period: Pace = Field(
        default=300.0,
        description="How often Slurm is asked when a new job would start (`sbatch --test-only`), "
        "once for each partition, account and QoS that profiles name. 0: never.",
    )
    predict_user: str | None = Field(
        default=None,
        description="As which Unix user this is asked, because accounts and limits are users'. Not "
        "set: the server's own.",
    )
    predict: dict[Name, PredictSettings] = Field(default_factory=dict)
