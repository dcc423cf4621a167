"""Reading a request's JSON as data: what is not what we expect is told, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import reprlib

from aiohttp import web

from penstock.model.errors import Invalid

MAX_BODY = 12 * 2**20
"""Bytes of a request that are read at all; an environment of 10 MB still gets a real answer."""

PATIENCE = 60.0
"""Seconds that a body may take to arrive."""


async def json_object(request: web.Request) -> dict[str, object]:
    """The request's body as a JSON object. Raises Invalid otherwise, HTTPRequestTimeout if it is late.

    Only ``application/json`` is taken: a page of another origin cannot send that without the
    browser asking first (Fetch standard, "CORS-safelisted request-header").
    """
    if request.content_type != "application/json":
        raise Invalid(
            f"The body must be JSON with Content-Type application/json, not {request.content_type!r}"
        )
    try:
        raw = await asyncio.wait_for(request.read(), PATIENCE)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(
            text=f"The request's body did not arrive within {PATIENCE:.0f} s."
        ) from None
    except ConnectionError:  # a job that was killed half-way through its report, for instance
        raise Invalid("The connection ended before the whole body had arrived.") from None
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid(f"The body must be a JSON object, not {type(value).__name__}")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def count(value: object, what: str) -> int:
    """A number of workers: an integer from 0 to a million. Raises Invalid."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid(f"{what} must be a non-negative integer, got {_short(value)}")
    if value > 1_000_000:
        raise Invalid(f"{what} must be at most 1000000, got {_short(value)}")
    return value


def optional_count(value: object, what: str) -> int | None:
    """As ``count``, but None stays None."""
    return None if value is None else count(value, what)


def _short(value: object) -> str:
    text = reprlib.repr(value)  # nested ever so deep, it is cut
    return text if len(text) <= 60 else text[:57] + "..."
