"""Walking the models by key path: for error messages, environment variables and the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Place = Any
"""A type annotation, or a model class, that describes the value at some path."""


def bare(place: Place) -> Place:
    """The annotation without ``Annotated[…]`` and without ``| None``."""
    while True:
        origin: Any = typing.get_origin(place)
        if origin is typing.Annotated:
            place = typing.get_args(place)[0]
            continue
        if origin in (Union, types.UnionType):
            members = [member for member in typing.get_args(place) if member is not type(None)]
            if len(members) == 1:
                place = members[0]
                continue
        return place


def members(place: Place) -> Mapping[str, type[BaseModel]]:
    """``type`` value → model, of a union of models told apart by it; empty for anything else."""
    place = bare(place)
    if not _is(place, Union, types.UnionType):
        return {}
    found = {}
    for member in typing.get_args(place):
        kind = member.model_fields["type"].annotation if is_model(member) else None
        if _is(kind, Literal):
            found[typing.get_args(kind)[0]] = member
    return found


def is_model(place: Place) -> bool:
    """True for a section."""
    return isinstance(place, type) and issubclass(place, BaseModel)


def fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The keys of a section as they are written, with their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def inner(place: Place) -> Place:
    """What the values of a table or array are."""
    place = bare(place)
    arguments = typing.get_args(place)
    if _is(place, dict, Mapping):
        return arguments[1]
    if _is(place, tuple, list, Sequence):
        return arguments[0]
    return None


def walk(root: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str | int], Place]:
    """(key path, place of its container) of a location as pydantic reports it.

    Pydantic puts the ``type`` of a union's member between the keys; it is left out here.
    """
    path: list[str | int] = []
    place: Place = root
    container: Place = root
    for step in location:
        if step == "[key]":
            break
        kinds = members(place)
        if step in kinds:
            place = container = kinds[typing.cast(str, step)]
            continue
        path.append(step)
        container, place = place, _below(place, step)
    return path, container


def _below(place: Place, step: str | int) -> Place:
    place = bare(place)
    if is_model(place):
        field = fields(place).get(str(step))
        return field.annotation if field is not None else None
    return inner(place)


def sections(place: Place, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """(path, model) of every section from a place downward; names of the user's own as ``<name>``."""
    for model in members(place).values() or [bare(place)]:
        if is_model(model):
            yield path, model
            for key, field in fields(model).items():
                yield from sections(field.annotation, f"{path}.{key}" if path else key)
            continue
        below = inner(place)
        if below is not None:
            yield from sections(below, path if _is(bare(place), tuple) else f"{path}.<name>")


def _is(place: Place, *origins: Any) -> bool:
    """True for a generic type (``dict[str, int]``) of one of these origins."""
    return typing.get_origin(place) in origins
