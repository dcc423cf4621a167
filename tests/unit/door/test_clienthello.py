"""The parser of the first bytes, with real hellos, built hellos, lies and noise."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.door.clienthello import LIMIT, Hello, Malformed, NeedMore, NotTls, parse
from unit.door.hellos import (
    GREASE,
    body,
    extension,
    message,
    real_hello,
    records,
    server_name,
    vector,
)

NAME = "daskgateway-" + "0123456789abcdef" * 2


@pytest.mark.parametrize("tls12", [False, True])
@pytest.mark.parametrize("name", [NAME, "gateway.example.org", None])
def test_a_real_hello_is_understood_whole_and_not_before(name: str | None, tls12: bool) -> None:
    hello = real_hello(name, tls12=tls12)
    for cut in range(len(hello)):
        verdict = parse(hello[:cut])
        assert isinstance(verdict, NeedMore), cut
        assert cut < verdict.size <= len(hello), cut
    assert parse(hello) == Hello(name)
    assert parse(hello + b"early data") == Hello(name)


@given(st.lists(st.integers(1, 90), max_size=40))
def test_records_may_cut_a_hello_anywhere(sizes: list[int]) -> None:
    hello = message(real_hello(NAME)[9:])
    data = records(hello, *sizes)
    assert parse(data) == Hello(NAME)
    for cut in range(len(data)):
        verdict = parse(data[:cut])
        # The end of the message counts, not that of its record, so the last byte decides.
        assert isinstance(verdict, NeedMore), cut
        assert verdict.size > cut


@pytest.mark.parametrize("size", [1_216, 1_800, 4_000, 12_000])
def test_post_quantum_key_shares_are_no_obstacle(size: int) -> None:
    shares = extension(51, vector(2, b"\x11\xec" + vector(2, os.urandom(size))))
    hello = message(body(shares + server_name(NAME.encode())))
    assert parse(records(hello)) == Hello(NAME)
    assert parse(records(hello, 1, 3, 500)) == Hello(NAME)


def test_grease_is_skipped_wherever_it_stands() -> None:
    noise = extension(GREASE, b"") + extension(0xFAFA, b"\0" * 7)
    hello = body(noise + server_name(NAME.encode()) + noise)
    assert parse(records(message(hello))) == Hello(NAME)


def test_names_are_compared_without_case() -> None:
    assert parse(records(message(body(server_name(NAME.upper().encode()))))) == Hello(NAME)


@pytest.mark.parametrize("extensions", [None, b"", extension(GREASE, b"x")])
def test_no_name_is_no_error(extensions: bytes | None) -> None:
    assert parse(records(message(body(extensions)))) == Hello(None)


def test_a_name_of_unknown_kind_is_skipped() -> None:
    assert parse(records(message(body(server_name(b"x", kind=7))))) == Hello(None)


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (server_name(b"a", b"b"), "several host names"),
        (server_name(b"a") * 2, "two server_name"),
        (server_name(b""), "length of its server name is wrong"),
        (server_name("dask–é".encode()), "ASCII"),
        (server_name(b"a\nb"), "ASCII"),
        (server_name(b"a b"), "ASCII"),
        (server_name(b"a" * 256), "ASCII"),
        (extension(0, b""), "before its server name list"),
        (extension(0, b"\0\0"), "server name list is wrong"),
        (extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x"), "follow the server name list"),
        (extension(0, vector(2, b"\0\0\x09a")), "server name is wrong"),
        (b"\0", "cut off"),
        (b"\0\x2b\0\x09", "longer than the hello"),
    ],
)
def test_bad_extensions_are_refused(extensions: bytes, reason: str) -> None:
    verdict = parse(records(message(body(extensions))))
    assert isinstance(verdict, Malformed)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01\x40\x01", "more than TLS allows"),
        (b"\x16\x03\x01\x00\x00", "empty"),
        (b"\x16\x03\x01\x00\x05\x02\0\0\x01\0", "not a ClientHello"),
        (b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\0", "hello claims"),
        (b"\x16\x03\x01\x00\x05\x01\0\0\x01\0", "ends before its session id"),
        (b"\x16\x03\x01\x00\x02\x01\0\x15\x03\x03\x00\x02\x02\x28", "another record"),
        (records(message(body(None, session=b"s" * 33))), "session id is wrong"),
        (records(message(b"\x03\x03" + b"r" * 32 + b"\0\0\0\x01\0")), "cipher suites is wrong"),
        (records(message(body(b"") + b"x")), "follow the extensions"),
    ],
)
def test_lies_are_refused_as_soon_as_they_show(data: bytes, reason: str) -> None:
    verdict = parse(data)
    assert isinstance(verdict, Malformed)
    assert reason in verdict.reason


@pytest.mark.parametrize(("grain", "reason"), [(1, "records"), (600, "bytes")])
def test_a_hello_that_never_ends_is_bounded(grain: int, reason: str) -> None:
    hello = message(body(extension(21, b"\0" * (LIMIT - 100))))
    data = b""
    while isinstance(verdict := parse(data[:LIMIT]), NeedMore):
        assert verdict.size <= LIMIT
        data += b"\x16\x03\x01" + vector(2, hello[:grain])
        hello = hello[grain:]
    assert isinstance(verdict, Malformed)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1", b"\x80\x2e\x01\x03", b"\x16\x02", b"\0", b"\xff"]
)
def test_other_protocols_are_not_tls(data: bytes) -> None:
    assert parse(data) == NotTls()


@given(st.binary(max_size=300), st.binary(max_size=80), st.integers(0, 600))
@settings(max_examples=400)
def test_noise_never_raises_and_progress_is_honest(head: bytes, noise: bytes, at: int) -> None:
    hello = real_hello(NAME)
    for data in (head, b"\x16\x03\x01" + head, hello[:at] + noise + hello[at + len(noise) :]):
        verdict = parse(data)
        if isinstance(verdict, NeedMore):
            assert len(data) < verdict.size <= LIMIT


@given(st.integers(0, 600), st.integers(0, 255))
@settings(max_examples=400)
def test_a_flipped_byte_never_raises(at: int, value: int) -> None:
    hello = bytearray(real_hello(NAME))
    hello[at % len(hello)] = value
    parse(bytes(hello))
