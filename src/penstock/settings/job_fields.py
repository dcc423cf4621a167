"""The options that reach a job's environment as they are: variables, and a path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.environment.choice import tidy
from penstock.model.errors import Invalid
from penstock.settings.base import NAME
from penstock.settings.fields import CONTROL, MAX_ENV, BaseField, MappingField, OptionField
from penstock.settings.problems import shorten
from penstock.settings.units import show_size

MAX_VARIABLE = 128 * 1024 - 1
"""Bytes of one ``NAME=value``: Linux takes 128 KiB with its closing NUL (MAX_ARG_STRLEN, execve(2))."""

MAX_VARIABLES = 10_000


@dataclass(frozen=True)
class EnvField(MappingField):
    """Environment variables: data, byte for byte. Values are never quoted in errors."""

    def parse(self, value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise self.refuse("a mapping of names to text", value)
        if len(value) > MAX_VARIABLES:
            raise Invalid(
                f"{self.name} is too large: at most {MAX_VARIABLES} variables are allowed"
            )
        total = 0
        for name, text in value.items():
            total += self._check(name, text)
            if total > MAX_ENV:
                raise Invalid(
                    f"{self.name} is too large: all variables together may have "
                    f"{show_size(MAX_ENV)}; put the data into a file"
                )
        return dict(value)

    def _check(self, name: object, text: object) -> int:
        if not isinstance(name, str) or not name or len(name) > 255:
            raise Invalid(f"{self.name}: {shorten(name)} cannot be a variable's name")
        if "=" in name or " " in name or CONTROL.search(name):
            raise Invalid(
                f"{self.name}: {shorten(name)} cannot be a variable's name, which has no '=', "
                "no space and no control characters"
            )
        if not isinstance(text, str):
            kind = type(text).__name__
            raise Invalid(f"{self.name}: the value of {shorten(name)} must be text, not {kind}")
        try:
            size = len(name.encode()) + len(text.encode()) + 1
        except UnicodeEncodeError:
            raise Invalid(f"{self.name}: the value of {shorten(name)} is not valid text") from None
        if "\0" in text:
            raise Invalid(f"{self.name}: the value of {shorten(name)} holds a NUL character")
        if size > MAX_VARIABLE:
            raise Invalid(
                f"{self.name}: {shorten(name)} is too large: a variable may have "
                f"{show_size(MAX_VARIABLE + 1)} (Linux's limit); put the data into a file"
            )
        return size


@dataclass(frozen=True)
class PathField(BaseField):
    """The directory of an environment; empty for none. Whether it exists is not looked at here."""

    what: str

    def spec(self) -> dict[str, object]:
        return {"type": "string"}

    def parse(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not value.startswith("/"):
            raise self.refuse(f"the absolute path of a {self.what}", value)
        if len(value) > 1024 or ".." in value.split("/") or ":" in value or CONTROL.search(value):
            raise self.refuse("a path without '..', ':' and control characters", value)
        return tidy(value)


@dataclass(frozen=True)
class CondaField(PathField):
    """The path of a conda environment, or the name of one in ``directories``."""

    directories: tuple[str, ...] = ()

    def parse(self, value: object) -> str:
        named = isinstance(value, str) and value and not value.startswith(("/", "."))
        if not named or "/" in str(value):
            return super().parse(value)
        if not self.directories:
            raise self.refuse("the absolute path of a conda environment", value)
        if not NAME.fullmatch(str(value)):
            allowed = f"the absolute path of a {self.what}, or the name of one in "
            raise self.refuse(allowed + ", ".join(self.directories), value)
        return str(value)

    def merge(self, other: OptionField) -> OptionField:
        return other if isinstance(other, CondaField) and not self.directories else self
