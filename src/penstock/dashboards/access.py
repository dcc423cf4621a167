"""Who may load what, decided purely from what a request shows.

The pages are hostile (see ``headers``), so a cookie or a remembered password may only open a
*page*, which the sandbox then holds; what a page loads is known by the capability in its path. And
that capability alone opens no page: a leaked address is of no use to whoever finds it in a
history or on a screen, the exception being a frame, which only the configured sites may put up.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.dashboards.grants import Viewer
from penstock.dashboards.origin import foreign, is_websocket


class Step(enum.Enum):
    """What to do with a request."""

    SERVE = enum.auto()  # pass it to the scheduler
    ENTER = enum.auto()  # send the browser to the page's address with a fresh capability
    LOGIN = enum.auto()  # ask who it is
    REFUSE = enum.auto()  # a request that no honest page makes


@dataclass(frozen=True, slots=True)
class Context:
    """What the browser (or program) says about how it asks.

    ``page``: a document is loaded, by link, address bar or frame. ``framed``: in a frame.
    ``foreign``: for another site's or a sandboxed page. ``worker``: as a service worker's script.
    """

    page: bool = False
    framed: bool = False
    socket: bool = False
    foreign: bool = False
    null_origin: bool = False
    worker: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Context:
        """Read the headers of a request; they must find names in any case.

        Browsers leave ``Sec-Fetch-*`` out over plain HTTP (but for localhost); then what accepts
        HTML counts as a page.
        """
        mode = headers.get("Sec-Fetch-Mode")
        wants_html = "text/html" in headers.get("Accept", "")
        socket = is_websocket(headers)
        return cls(
            page=not socket and (mode == "navigate" if mode is not None else wants_html),
            framed=headers.get("Sec-Fetch-Dest") in ("iframe", "frame"),
            socket=socket,
            foreign=foreign(headers),
            null_origin=headers.get("Origin") == "null",
            worker="Service-Worker" in headers,
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """Whom each grant of a request admits; None for one that is missing or not valid.

    ``in_path``: there is a token in the path, valid or not. ``password``: by ``Authorization``.
    """

    in_path: bool = False
    ticket: Viewer | None = None
    capability: Viewer | None = None
    session: Viewer | None = None
    password: Viewer | None = None

    @property
    def credentials(self) -> Viewer | None:
        """Who asks, by what browsers send along by themselves."""
        return self.session or self.password


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step, and the viewer that it is for (None only for LOGIN and REFUSE)."""

    step: Step
    viewer: Viewer | None = None


def decide(context: Context, shown: Shown) -> Verdict:
    """What to do. Whether the viewer may see the cluster is the next question, not this one."""
    if context.worker:
        return Verdict(Step.REFUSE)
    if context.page:
        return _page(context, shown)
    if shown.in_path:
        return _part(context, shown)
    if shown.credentials is None:
        return Verdict(Step.LOGIN)
    return Verdict(Step.REFUSE if context.foreign else Step.SERVE, shown.credentials)


def _page(context: Context, shown: Shown) -> Verdict:
    if shown.ticket:
        return Verdict(Step.ENTER, shown.ticket)
    if shown.capability and context.framed:
        return Verdict(Step.SERVE, shown.capability)
    if shown.credentials is None:
        return Verdict(Step.LOGIN)
    return Verdict(Step.SERVE if shown.capability else Step.ENTER, shown.credentials)


def _part(context: Context, shown: Shown) -> Verdict:
    viewer = shown.capability or shown.ticket
    if viewer is None:
        return Verdict(Step.REFUSE)
    # A page of another site has no business on a scheduler's socket, whatever it got hold of.
    elsewhere = context.socket and context.foreign and not context.null_origin
    return Verdict(Step.REFUSE) if elsewhere else Verdict(Step.SERVE, viewer)
