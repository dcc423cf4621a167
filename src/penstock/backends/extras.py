"""What a batch's ``extras`` change of a backend's settings for jobs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from penstock.model.errors import Rejected
from penstock.settings.base import Section

S = TypeVar("S", bound=Section)


def with_extras(own: S, extras: Mapping[str, object]) -> S:
    """The settings ``own`` with those of ``extras``, which win. Raises Rejected with all mistakes."""
    try:
        return type(own).model_validate({**own.model_dump(exclude_unset=True), **extras})
    except ValidationError as error:
        raise Rejected(
            "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
        ) from None
