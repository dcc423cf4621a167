"""Which paths and addresses pass, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dashboards.paths import Asked, masked, parse, rewrite_location, upstream, valid_page

NAME = "0123456789abcdef" * 2
BASE = "http://10.0.0.5:8787"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (f"/clusters/{NAME}", Asked(NAME, None, "/status")),
        (f"/clusters/{NAME}/", Asked(NAME, None, "/")),
        (f"/clusters/{NAME}/status", Asked(NAME, None, "/status")),
        (f"/clusters/{NAME}/~a.b/status?x=1", Asked(NAME, "a.b", "/status?x=1")),
        (f"/clusters/{NAME}/~a.b", Asked(NAME, "a.b", "/status")),
        (f"/clusters/{NAME}/~a.b/-/info/x", Asked(NAME, "a.b", "/info/x", padded=True)),
        (f"/clusters/{NAME}/~a.b/-", Asked(NAME, "a.b", "/-")),
        (f"/clusters/{NAME}/-/x", Asked(NAME, None, "/-/x")),
        (f"/clusters/{NAME}/x/~y", Asked(NAME, None, "/x/~y")),
        (f"/clusters/{NAME}/status?next=/../%2e", Asked(NAME, None, "/status?next=/../%2e")),
    ],
)
def test_paths_are_taken_apart(path: str, asked: Asked) -> None:
    assert parse(path) == asked
    assert asked.prefix == path[: len(asked.prefix)]


def test_a_page_under_a_capability_is_the_same_page() -> None:
    asked = Asked(NAME, None, "/info/x?y")
    assert asked.under("c.d") == f"/clusters/{NAME}/~c.d/-/info/x?y"
    assert parse(asked.under("c.d")) == Asked(NAME, "c.d", "/info/x?y", padded=True)


@pytest.mark.parametrize(
    "path",
    [
        "/clusters/",
        "/clusters/short/status",
        f"/clusters/{NAME.upper()}/status",
        f"/clusters/{NAME}x/status",
        f"/clusters//{NAME}/status",
        f"//clusters/{NAME}/status",
        f"http://evil/clusters/{NAME}/status",
        f"/clusters/{NAME}/~a.b/../status",
        f"/clusters/{NAME}?x",
    ],
)
def test_other_paths_name_no_cluster(path: str) -> None:
    assert parse(path) is None


@pytest.mark.parametrize(
    "page",
    [
        "/status",
        "/static/js/bokeh.min.js?v=3d5c",
        "/info/worker/tls%3A%2F%2F10.0.0.5%3A4711.html",
        "/info/task/%28%27x-1%27%2C+0%29.html",
        "/statics/individual-cluster-map.html",
        "/status/ws",
        "/a..b/...",
        "/q?a=b&c=[1]|{2}^`\\",
    ],
)
def test_pages_of_dask_pass(page: str) -> None:
    assert valid_page(page)


@pytest.mark.parametrize(
    "page",
    [
        "status",
        "/..",
        "/a/../b",
        "/./b",
        "/%2e%2e/b",
        "/a/.%2E",
        "/a%2f..%2fb",
        "/a%5c..%5cb",
        "/a\\..\\b",
        "/a%00",
        "/a%0d%0aX: y",
        "/a%0D%0AX",
        "/a\r\nX: y",
        "/a b",
        "/a%",
        "/a%zz",
        "/ä",
        "/a?b c",
        "/a?b\r\nc",
        "/a#b",
        "/a?b#c",
        "/" + "a" * 8000,
    ],
)
def test_what_may_mean_another_place_does_not_pass(page: str) -> None:
    assert not valid_page(page)


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    asked = parse(f"/clusters/{NAME}/{text}")
    assert asked is None or (asked.name == NAME and asked.page.isascii())


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://10.0.0.5:8787", BASE),
        ("http://10.0.0.5:8787/", BASE),
        ("http://[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("http://[2001:DB8:0::1]:80", "http://[2001:db8::1]:80"),
    ],
)
def test_addresses_of_dashboards(address: str, base: str) -> None:
    assert upstream(address) == base


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10.0.0.5:8787",
        "http://10.0.0.5",
        "http://localhost:8787",
        "http://metadata.internal:80",
        "http://10.0.0.5:0",
        "http://10.0.0.5:99999",
        "http://u@10.0.0.5:8787",
        "http://10.0.0.5:8787/x",
        "http://10.0.0.5:8787?x",
        "http://10.0.0.5:8787#x",
        "https://10.0.0.5:8787",
        "file:///etc/passwd",
        "http://[::1",
        "http://0x7f.1:80",
    ],
)
def test_other_addresses_are_no_dashboards(address: str) -> None:
    assert upstream(address) is None


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("status", "/P/info/status"),
        ("/status?x=1#top", "/P/status?x=1#top"),
        ("info/main/workers.html", "/P/info/info/main/workers.html"),
        (BASE, "/P/"),
        (BASE + "/tasks", "/P/tasks"),
        ("../../../status", "/P/status"),
        ("//10.0.0.5:8787/x", "/P/x"),
    ],
)
def test_redirects_at_home_are_followed_by_the_browser(location: str, seen: str) -> None:
    assert rewrite_location(location, BASE, "/info/", "/P") == seen


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://evil.example/",
        "//evil.example/",
        "\\\\evil.example/",
        "/\\evil.example",
        "http://10.0.0.5:8788/",
        "http://10.0.0.5:8787@evil.example/",
        "http://u@10.0.0.5:8787/",
        "https://10.0.0.5:8787/",
        "javascript:alert(1)",
        "/%2e%2e/api",
        "/x\r\nSet-Cookie: a=b",
        "/ x",
        "http://[",
    ],
)
def test_redirects_elsewhere_are_dropped(location: str) -> None:
    assert rewrite_location(location, BASE, "/info/", "/P") is None


def test_tokens_are_masked_in_logs() -> None:
    line = f'"GET /clusters/{NAME}/~abc.def/status?x=1 HTTP/1.1" 200'
    assert masked(line) == f'"GET /clusters/{NAME}/~…/status?x=1 HTTP/1.1" 200'
    assert masked("/api/v1/clusters/~x") == "/api/v1/clusters/~x"
