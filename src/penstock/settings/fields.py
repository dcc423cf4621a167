"""One option each: what it is called, what it allows, how the client's form shows it. Pure.

``spec`` is the JSON from which ``dask_gateway.options`` builds its fields; the types there are
string, bool, int, float, select and mapping. The client checks values that go through an
``Options`` object against that type, but sends keyword arguments as they are. So ``worker_memory``
is a float for the form, and takes text like "4 GB" as a keyword.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from penstock.model.errors import Invalid
from penstock.settings import site_options
from penstock.settings.problems import shorten
from penstock.settings.units import parse_size, show_size

GIB = 2**30

BUILT_IN_NAMES = frozenset(
    {"profile", "worker_cores", "worker_memory", "env", "env_dropped"}
    | {"venv", "conda_env", "pixi_project", "pixi_env"}
)

OF_WORKERS = frozenset({"worker_cores", "worker_memory"})
"""Built-in where a profile has workers. Where users bring them, a site may define them: clients that
bring workers ask the form what to ask their batch system for."""

MAX_ENV = 2**20
"""Bytes of all variables together."""

MAX_DEPTH = 10
"""Levels of a table of a user's own."""

_WHOLE = 2**53
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class OptionField(Protocol):
    """One option. ``default`` is what users get who set none."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def default(self) -> Any: ...

    def spec(self) -> dict[str, object]:
        """The type as the client reads it."""

    def parse(self, value: object) -> Any:
        """The value as it is kept and shown. Raises Invalid, which names the option, the value
        and what is allowed."""

    def apply(self, value: Any) -> Any:
        """What a parsed value sets."""

    def offers(self) -> tuple[Any, ...]:
        """Parsed values that stand for all that users may choose, as far as some can."""

    def merge(self, other: OptionField) -> OptionField:
        """A field for a form that allows whatever either allows; this one's default and label."""


@dataclass(frozen=True)
class BaseField:
    name: str
    label: str
    default: Any

    def apply(self, value: Any) -> Any:
        return value

    def offers(self) -> tuple[Any, ...]:
        return ()

    def merge(self, other: OptionField) -> OptionField:
        return self  # type: ignore[return-value]

    def refuse(self, allowed: str, value: object) -> Invalid:
        return Invalid(f"{self.name} must be {allowed}, not {shorten(value)}")


@dataclass(frozen=True)
class StringField(BaseField):
    """Text in one line."""

    pattern: str | None = None
    max_length: int = 1024

    def spec(self) -> dict[str, object]:
        return {"type": "string"}

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.refuse("text", value)
        if len(value) > self.max_length:
            raise self.refuse(f"text of at most {self.max_length} characters", value)
        if CONTROL.search(value):
            raise self.refuse("text without control characters", value)
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise self.refuse(f"text that matches {self.pattern!r}", value)
        return value


@dataclass(frozen=True)
class NumberField(BaseField):
    """A number, ``whole`` or not, between ``least`` and ``most`` (None: no bound)."""

    least: float | None = None
    most: float | None = None
    whole: bool = True

    def spec(self) -> dict[str, object]:
        kind = "int" if self.whole else "float"
        return {"type": kind, "min": self._plain(self.least), "max": self._plain(self.most)}

    def parse(self, value: object) -> float:
        number = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _WHOLE:
            number = value
        wrong = not math.isfinite(number) or (self.whole and number != int(number))
        low = self.least is not None and number < self.least
        if wrong or low or (self.most is not None and number > self.most):
            raise self.refuse(self._allowed(), value)
        return int(number) if self.whole else float(number)

    def offers(self) -> tuple[Any, ...]:
        bounds = (self._plain(self.least), self._plain(self.most))
        return tuple(bound for bound in bounds if bound is not None)

    def merge(self, other: OptionField) -> OptionField:
        if not isinstance(other, NumberField):
            return self
        none = (self.least is None or other.least is None, self.most is None or other.most is None)
        return replace(
            self,
            least=None if none[0] else min(self.least or 0, other.least or 0),
            most=None if none[1] else max(self.most or 0, other.most or 0),
            whole=self.whole and other.whole,
        )

    def _plain(self, bound: float | None) -> float | None:
        return int(bound) if bound is not None and self.whole else bound

    def _allowed(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least:g} to {self.most:g}"
        if self.least is not None:
            return f"{kind} of at least {self.least:g}"
        return kind if self.most is None else f"{kind} of at most {self.most:g}"


@dataclass(frozen=True)
class MemoryField(BaseField):
    """Memory: GiB as a number, or text with a unit; kept in GiB, set in bytes. Bounds in bytes."""

    least: int = 0
    most: int = 2**60

    def spec(self) -> dict[str, object]:
        return {"type": "float", "min": self.least / GIB, "max": self.most / GIB}

    def parse(self, value: object) -> float:
        size = -1
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            size = round(value * GIB) if 0 <= value <= 2**30 else -1
        elif isinstance(value, str) and len(value) < 100:
            number = re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{0,9})?\s*", value)
            try:
                size = round(float(value) * GIB) if number else parse_size(value)
            except ValueError:
                size = -1
        if not self.least <= size <= self.most:
            low, high = show_size(self.least), show_size(self.most)
            allowed = f'GiB as a number, or text like "4 GB" or "4GiB", from {low} to {high}'
            raise self.refuse(allowed, value)
        return size / GIB

    def apply(self, value: float) -> int:
        return round(value * GIB)

    def merge(self, other: OptionField) -> OptionField:
        if not isinstance(other, MemoryField):
            return self
        return replace(self, least=min(self.least, other.least), most=max(self.most, other.most))


@dataclass(frozen=True)
class BoolField(BaseField):
    """Yes or no."""

    def spec(self) -> dict[str, object]:
        return {"type": "bool"}

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.refuse("true or false", value)
        return value


@dataclass(frozen=True)
class SelectField(BaseField):
    """One of several: ``choices`` maps what is shown to what is set."""

    choices: Mapping[str, Any]

    def spec(self) -> dict[str, object]:
        return {"type": "select", "options": list(self.choices)}

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise self.refuse(f"one of {', '.join(map(repr, self.choices))}", value)
        return value

    def apply(self, value: str) -> Any:
        return self.choices[value]

    def offers(self) -> tuple[Any, ...]:
        return tuple(self.choices)

    def merge(self, other: OptionField) -> OptionField:
        if not isinstance(other, SelectField):
            return self
        return replace(self, choices={**other.choices, **self.choices})


@dataclass(frozen=True)
class MappingField(BaseField):
    """A table of anything that JSON can say, up to ``MAX_ENV`` bytes or so."""

    def spec(self) -> dict[str, object]:
        return {"type": "mapping"}

    def parse(self, value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise self.refuse("a mapping", value)
        if _too_deep(value, MAX_DEPTH):
            raise Invalid(f"{self.name} is nested too deeply: at most {MAX_DEPTH} levels")
        if len(repr(value)) > MAX_ENV:
            raise Invalid(f"{self.name} is too large: at most {show_size(MAX_ENV)} are allowed")
        return dict(value)


def _too_deep(value: object, levels: int) -> bool:
    """Whether tables and lists within each other have more than so many levels."""
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(inner, str) or not isinstance(inner, Iterable):
        return False
    return levels == 0 or any(_too_deep(each, levels - 1) for each in inner)


def site_field(name: str, option: site_options.SiteOption) -> OptionField:
    """The field of an option that a site added."""
    label = option.label or name
    match option:
        case site_options.StringOption():
            return StringField(name, label, option.default, option.pattern, option.max_length)
        case site_options.IntegerOption():
            return NumberField(name, label, option.default, option.min, option.max)
        case site_options.FloatOption():
            return NumberField(name, label, option.default, option.min, option.max, whole=False)
        case site_options.BoolOption():
            return BoolField(name, label, option.default)
        case site_options.SelectOption():
            default = option.default if option.default is not None else next(iter(option.choices))
            return SelectField(name, label, default, option.choices)
        case site_options.MappingOption():
            return MappingField(name, label, option.default)
