"""The table of who may load what."""

from __future__ import annotations

import itertools

import pytest
from multidict import CIMultiDict

from penstock.dashboards.access import Context, Shown, Step, decide
from penstock.dashboards.grants import Viewer

A = Viewer("alice")
PAGE, FRAME = Context(page=True), Context(page=True, framed=True)
PART, FOREIGN_PART = Context(), Context(foreign=True)
SANDBOXED_SOCKET = Context(socket=True, foreign=True, null_origin=True)
FOREIGN_SOCKET = Context(socket=True, foreign=True)
PROGRAM_SOCKET = Context(socket=True)

NOTHING = Shown()
TICKET = Shown(in_path=True, ticket=A)
CAPABILITY = Shown(in_path=True, capability=A)
INVALID = Shown(in_path=True)
SESSION, PASSWORD = Shown(session=A), Shown(password=A)
BOTH = Shown(in_path=True, capability=A, session=A)
EXPIRED_WITH_SESSION = Shown(in_path=True, session=A)


@pytest.mark.parametrize(
    ("context", "shown", "step"),
    [
        # a page
        (PAGE, NOTHING, Step.LOGIN),
        (PAGE, TICKET, Step.ENTER),
        (PAGE, SESSION, Step.ENTER),
        (PAGE, PASSWORD, Step.ENTER),
        (PAGE, BOTH, Step.SERVE),
        (PAGE, CAPABILITY, Step.LOGIN),  # a leaked address alone opens nothing
        (PAGE, INVALID, Step.LOGIN),
        (PAGE, EXPIRED_WITH_SESSION, Step.ENTER),
        # in a frame, where the sites that may put it up are the browser's to check
        (FRAME, TICKET, Step.ENTER),
        (FRAME, CAPABILITY, Step.SERVE),
        (FRAME, INVALID, Step.LOGIN),
        (FRAME, NOTHING, Step.LOGIN),
        # what a page loads
        (PART, CAPABILITY, Step.SERVE),
        (FOREIGN_PART, CAPABILITY, Step.SERVE),
        (FOREIGN_PART, TICKET, Step.SERVE),
        (FOREIGN_PART, INVALID, Step.REFUSE),
        (FOREIGN_PART, EXPIRED_WITH_SESSION, Step.REFUSE),
        # programs, and the gateway's own pages
        (PART, NOTHING, Step.LOGIN),
        (PART, SESSION, Step.SERVE),
        (PART, PASSWORD, Step.SERVE),
        (FOREIGN_PART, NOTHING, Step.LOGIN),
        (FOREIGN_PART, SESSION, Step.REFUSE),
        (FOREIGN_PART, PASSWORD, Step.REFUSE),
        # sockets
        (SANDBOXED_SOCKET, CAPABILITY, Step.SERVE),
        (FOREIGN_SOCKET, CAPABILITY, Step.REFUSE),
        (SANDBOXED_SOCKET, SESSION, Step.REFUSE),
        (SANDBOXED_SOCKET, PASSWORD, Step.REFUSE),
        (SANDBOXED_SOCKET, INVALID, Step.REFUSE),
        (PROGRAM_SOCKET, PASSWORD, Step.SERVE),
        (PROGRAM_SOCKET, NOTHING, Step.LOGIN),
    ],
)
def test_decisions(context: Context, shown: Shown, step: Step) -> None:
    verdict = decide(context, shown)
    assert verdict.step is step
    assert verdict.viewer == A or step in (Step.LOGIN, Step.REFUSE)


def test_over_all_combinations_nothing_is_served_without_a_valid_grant() -> None:
    for flags in itertools.product((False, True), repeat=6):
        for in_path in (False, True):
            verdict = decide(Context(*flags), Shown(in_path=in_path))
            assert verdict.step in (Step.LOGIN, Step.REFUSE)


def test_over_all_combinations_ambient_credentials_alone_serve_no_foreign_page() -> None:
    for page, framed, socket, null_origin in itertools.product((False, True), repeat=4):
        for shown in (SESSION, PASSWORD, EXPIRED_WITH_SESSION):
            context = Context(page, framed, socket, foreign=True, null_origin=null_origin)
            assert decide(context, shown).step is not Step.SERVE


def test_service_workers_are_refused_whoever_asks() -> None:
    assert decide(Context(worker=True), BOTH).step is Step.REFUSE


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        ({}, Context()),
        ({"Accept": "*/*"}, Context()),
        ({"Accept": "text/html,*/*"}, Context(page=True)),
        ({"Accept": "text/html", "Sec-Fetch-Mode": "cors"}, Context()),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, Context(page=True)),
        (
            {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
            Context(page=True, framed=True),
        ),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"}, Context(page=True)),
        ({"Sec-Fetch-Site": "cross-site"}, Context(foreign=True)),
        ({"Upgrade": "WebSocket", "Accept": "text/html"}, Context(socket=True)),
        (
            {"Upgrade": "websocket", "Origin": "null", "Host": "g"},
            Context(socket=True, foreign=True, null_origin=True),
        ),
        ({"Service-Worker": "script"}, Context(worker=True)),
    ],
)
def test_contexts_are_read_from_headers(headers: dict[str, str], context: Context) -> None:
    assert Context.of(CIMultiDict(headers)) == context
