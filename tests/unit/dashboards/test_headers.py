"""Which headers pass, and the policy of every page."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from penstock.dashboards import headers


def test_nothing_that_identifies_the_viewer_goes_up() -> None:
    asked = CIMultiDict(
        {
            "Accept": "text/html",
            "Accept-Encoding": "gzip",
            "If-None-Match": '"x"',
            "Cookie": "penstock-session=secret",
            "Authorization": "Basic c2VjcmV0",
            "Referer": "http://gateway/clusters/x/~secret/status",
            "Origin": "http://gateway",
            "Host": "gateway",
            "User-Agent": "Browser 1",
            "X-Forwarded-For": "10.0.0.1",
            "Connection": "keep-alive, X-Secret",
            "Transfer-Encoding": "chunked",
            "Upgrade": "h2c",
            "X-Secret": "1",
        }
    )
    assert headers.request_headers(asked) == {
        "Accept": "text/html",
        "If-None-Match": '"x"',
        "Accept-Encoding": "gzip",
        "User-Agent": "Penstock",
    }


def test_an_unpacked_answer_is_asked_for_when_the_viewer_cannot_unpack() -> None:
    assert headers.request_headers(CIMultiDict())["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Service-Worker-Allowed",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Content-Security-Policy",
        "Content-Security-Policy-Report-Only",
        "Cross-Origin-Opener-Policy",
        "Refresh",
        "Link",
        "Location",
        "Alt-Svc",
        "Public-Key-Pins",
        "X-Accel-Redirect",
        "X-Sendfile",
        "Report-To",
        "NEL",
        "Server",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Connection",
        "Keep-Alive",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
    ],
)
def test_dangerous_headers_do_not_come_down(name: str) -> None:
    passed = headers.response_headers(CIMultiDict({name: "x", "ETag": "e"}), max_age=60)
    assert name not in passed
    assert passed["ETag"] == "e"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", "private, no-cache"),
        ("no-store", "private, no-cache"),
        ("public, max-age=315360000", "private, max-age=600"),
        ("max-age=5, s-maxage=99", "private, max-age=5"),
        ("s-maxage=99", "private, no-cache"),
        ("MAX-AGE=7", "private, max-age=7"),
    ],
)
def test_only_this_browser_keeps_answers_and_not_for_long(asked: str, given: str) -> None:
    passed = headers.response_headers(CIMultiDict({"Cache-Control": asked}), max_age=600)
    assert passed["Cache-Control"] == given


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\x00", "\udcff", "é", "x" * 5000])
def test_values_that_are_not_plain_text_are_dropped(value: str) -> None:
    assert "ETag" not in headers.response_headers(CIMultiDict({"ETag": value}), max_age=0)


def test_pages_are_sandboxed_without_an_origin() -> None:
    policy = headers.page_policy(("'self'", "https://jupyter.example.org"))
    sandbox = policy.split(";")[0].split()
    assert sandbox[0] == "sandbox"
    assert "allow-scripts" in sandbox
    for never in ("same-origin", "forms", "top-navigation", "popups-to-escape-sandbox", "modals"):
        assert f"allow-{never}" not in sandbox
    assert policy.endswith("frame-ancestors 'self' https://jupyter.example.org")


@pytest.mark.parametrize("text", ["", "a b", "https://x;script-src *", "a,b", "a\nb", "ä"])
def test_sources_end_no_policy(text: str) -> None:
    assert not headers.is_source(text)
    assert headers.is_source("https://*.example.org:8443")
    assert headers.is_source("'self'")


@pytest.mark.parametrize("shared", [True, False])
def test_foreign_pages_may_read_only_with_a_capability(shared: bool) -> None:
    dressed = headers.security_headers("sandbox", shared=shared)
    assert ("Access-Control-Allow-Origin" in dressed) is shared
    assert ("Cross-Origin-Resource-Policy" in dressed) is not shared
    assert "Access-Control-Allow-Credentials" not in dressed
    assert dressed["Referrer-Policy"] == "no-referrer"
    assert dressed["X-Content-Type-Options"] == "nosniff"
