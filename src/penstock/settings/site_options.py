"""Options that a site adds to a profile: what users may choose, and which setting it sets."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from penstock.settings.base import Section

_TARGET = re.compile(
    r"env\.(?P<variable>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<place>scheduler|workers|jobs(?=\.extras\.)|group\.(?P<group>.+?))\."
    r"(?:extras\.(?P<extra>[^.]+)|(?P<field>cores|memory|gpus|threads|count))"
    r"|limits\.(?P<limit>max_lifetime|idle_timeout|no_client_timeout|cluster_max_workers)"
)
TARGETS = (
    "env.<NAME>, workers.extras.<key>, group.<name>.extras.<key>, scheduler.extras.<key>, "
    "jobs.extras.<key> (scheduler and workers), "
    "workers.cores|memory|gpus|threads (also with scheduler. or group.<name>.), "
    "group.<name>.count (workers to begin with), "
    "limits.max_lifetime|idle_timeout|no_client_timeout|cluster_max_workers"
)


class Target(Section):
    """A parsed target: exactly one of ``variable``, ``extra``, ``field`` and ``limit`` is set."""

    variable: str = ""
    place: str = ""
    group: str = ""
    extra: str = ""
    field: str = ""
    limit: str = ""


def parse_target(text: str) -> Target:
    """What a target names. Raises ValueError with the list of all kinds."""
    match = _TARGET.fullmatch(text)
    if match is None or (match["field"] == "count" and not match["group"]):
        raise ValueError(f"{text[:60]!a} is not a target; use one of {TARGETS}")
    return Target(**{key: value or "" for key, value in match.groupdict().items()})


class _Option(Section):
    label: str = Field(default="", description="What the form shows. Not set: the option's name.")
    target: str = Field(
        default="",
        description=f"Which setting it sets: {TARGETS}. Not set: workers.extras.<the option's name>.",
    )

    @model_validator(mode="after")
    def _known_target(self) -> _Option:
        if self.target:
            parse_target(self.target)
        return self


class StringOption(_Option):
    """Text in one line."""

    type: Literal["string"] = Field(description="`string`: text in one line.")
    default: str = Field(
        default="", description="The value of users who set none. Empty text sets nothing."
    )
    pattern: str | None = Field(
        default=None, description="A regular expression that the whole text must match."
    )
    max_length: int = Field(default=1024, gt=0, description="The most characters.")

    @model_validator(mode="after")
    def _compiles(self) -> StringOption:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from None
        return self


class IntegerOption(_Option):
    """A whole number."""

    type: Literal["integer"] = Field(description="`integer`: a whole number.")
    default: int = Field(default=0, description="The value of users who set none.")
    min: int | None = Field(default=None, description="The least that is allowed.")
    max: int | None = Field(default=None, description="The most that is allowed.")


class FloatOption(_Option):
    """A number."""

    type: Literal["float"] = Field(description="`float`: a number.")
    default: float = Field(
        default=0.0, allow_inf_nan=False, description="The value of users who set none."
    )
    min: float | None = Field(
        default=None, allow_inf_nan=False, description="The least that is allowed."
    )
    max: float | None = Field(
        default=None, allow_inf_nan=False, description="The most that is allowed."
    )


class BoolOption(_Option):
    """Yes or no."""

    type: Literal["bool"] = Field(description="`bool`: yes or no.")
    default: bool = Field(default=False, description="The value of users who set none.")


def _as_table(value: Any) -> Any:
    return {item: item for item in value} if isinstance(value, (list, tuple)) else value


class SelectOption(_Option):
    """One of several."""

    type: Literal["select"] = Field(description="`select`: one of several.")
    choices: Annotated[dict[str, Any], BeforeValidator(_as_table), Field(min_length=1)] = Field(
        description="A list of texts, or a table of what users see and what is set."
    )
    default: str | None = Field(
        default=None, description="The choice of users who make none. Not set: the first."
    )

    @model_validator(mode="after")
    def _is_a_choice(self) -> SelectOption:
        if self.default is not None and self.default not in self.choices:
            raise ValueError(f"default must be one of {', '.join(self.choices)}")
        return self


class MappingOption(_Option):
    """A table of the user's own."""

    type: Literal["mapping"] = Field(description="`mapping`: a table of the user's own.")
    default: dict[str, Any] = Field(
        default_factory=dict, description="The value of users who set none."
    )


SiteOption = Annotated[
    StringOption | IntegerOption | FloatOption | BoolOption | SelectOption | MappingOption,
    Field(discriminator="type"),
]
