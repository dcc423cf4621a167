"""The door's small pure parts: first bytes of HTTP, routes, deadlines, configuration, messages, log."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.door import protocol
from penstock.door.config import DoorConfig, show_address
from penstock.door.core import _network
from penstock.door.logs import Log
from penstock.door.loop import Deadlines
from penstock.door.routes import PREFIX, Routes, check_route
from penstock.door.sniff import alert, begins_http

NAME = "ab" * 16


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"G", None),
        (b"GET", None),
        (b"GET ", True),
        (b"GET / HTTP/1.1\r\n", True),
        (b"\r\n", None),
        (b"\r\nPOST /", True),
        (b"M-SEARCH *", True),
        (b"PRI * HTTP/2.0", True),
        (b"SSH-2.0-OpenSSH_9", False),
        (b"get / ", False),
        (b"A" * 21, False),
        (b"\r\n" * 20, False),
        (b"\0", False),
        (b" GET /", False),
        ("É".encode(), False),
    ],
)
def test_what_looks_like_http(data: bytes, verdict: bool | None) -> None:
    assert begins_http(data) is verdict


def test_an_alert_is_one_record() -> None:
    assert alert(112) == b"\x15\x03\x03\x00\x02\x02\x70"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("AB" * 16, ["127.0.0.1", 1]),
        ("ab" * 15, ["127.0.0.1", 1]),
        ("../" + "a" * 29, ["127.0.0.1", 1]),
        (NAME + "\n", ["127.0.0.1", 1]),
        (None, ["127.0.0.1", 1]),
        (NAME, ["localhost", 1]),
        (NAME, ["127.1", 1]),
        (NAME, ["127.0.0.1\0", 1]),
        (NAME, ["fe80::1%eth0", 1]),
        (NAME, ["127.0.0.1", 0]),
        (NAME, ["127.0.0.1", 65536]),
        (NAME, ["127.0.0.1", True]),
        (NAME, ["127.0.0.1", "1"]),
        (NAME, ["127.0.0.1"]),
        (NAME, None),
    ],
)
def test_false_routes_are_refused(name: object, address: object) -> None:
    with pytest.raises(ValueError, match=r"route"):
        check_route(name, address)


def test_routes_outlive_the_door(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    routes = Routes(str(path))
    routes.load()
    routes.put(NAME, ("127.0.0.1", 80))
    routes.put("cd" * 16, ("::1", 81))
    routes.drop("cd" * 16)
    routes.drop("ef" * 16)
    assert routes.dirty
    routes.save()
    assert not routes.dirty
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Routes(str(path))
    again.load()
    assert again.find(PREFIX + NAME) == ("127.0.0.1", 80)
    assert again.find(PREFIX + "cd" * 16) is None
    again.put(NAME, ("127.0.0.1", 80))
    again.replace({NAME: ("127.0.0.1", 80)})
    assert not again.dirty


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "routes": {}}', '{"format": 1, "routes": {"a": 1}}', "\0"],
)
def test_a_spoilt_route_file_is_named_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text(text)
    routes = Routes(str(path))
    with pytest.raises(ValueError, match=str(path)):
        routes.load()
    assert routes.table == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["add", "discard", "wait"]))))
def test_deadlines_expire_in_order_and_once(steps: list[tuple[int, str]]) -> None:
    ends: dict[object, float] = {}
    expired: list[object] = []
    deadlines = Deadlines(3.0, expired.append)
    now = 0.0
    for thing, step in steps:
        if step == "add":
            deadlines.add(thing, now)
            ends.pop(thing, None)
            ends[thing] = now + 3.0
        elif step == "discard":
            deadlines.discard(thing)
            ends.pop(thing, None)
        else:
            now += thing
            expired.clear()
            deadlines.check(now)
            due = [key for key, end in ends.items() if end <= now]
            assert expired == due
            for key in due:
                del ends[key]
        assert len(deadlines) == len(ends)
        assert all(key in deadlines for key in ends)


def test_a_configuration_travels_as_json() -> None:
    config = DoorConfig.in_state("/s", (("127.0.0.1", 1), ("::", 2)))
    assert DoorConfig.from_json(config.to_json()) == config
    assert [show_address(address) for address in config.listen] == ["127.0.0.1:1", "[::]:2"]


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"control":"","routes":"","listen":[],"no":1}'])
def test_another_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="configuration"):
        DoorConfig.from_json(text)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"op":1}', b"nonsense"])
def test_another_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        protocol.decode(data)


def test_a_part_of_the_table_fits_into_a_message() -> None:
    worst = {
        f"{number:032x}": ("ffff:" * 7 + "ffff", 65535) for number in range(protocol.TABLE_PART)
    }
    part = protocol.encode({"op": "table", "routes": worst, "more": True})
    assert len(part) < protocol.MAX_MESSAGE


def test_one_host_has_one_ipv6_network() -> None:
    assert _network("2001:db8::1") == _network("2001:db8::ffff:1") != _network("2001:db8:0:1::1")


def test_no_client_can_forge_a_line_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "door.log"
    log = Log(str(path))
    log.info("refused", name='x"}\n{"level": "error"}\r\u2028é')
    log.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["name"].endswith("é")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_flood_is_counted_not_written(tmp_path: Path) -> None:
    path = tmp_path / "door.log"
    log = Log(str(path))
    for _ in range(5_000):
        log.info("refused")
    log.close()
    assert 100 < len(path.read_text().splitlines()) < 1_000


def test_a_grown_log_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "door.log"
    path.write_bytes(b"x" * (9 << 20))
    log = Log(str(path))
    log.info("one")
    log.info("two")
    log.close()
    assert path.read_text().count("two") == 1
    assert (tmp_path / "door.log.1").stat().st_size > 9 << 20
