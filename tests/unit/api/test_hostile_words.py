"""What agents say becomes values or Invalid, whatever it is; never another exception."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.rate import Allowance
from penstock.control import channel, quota
from penstock.model.cluster import Cluster, ClusterSpec, GroupSpec, Limits, Scaling, Status
from penstock.model.errors import Invalid
from penstock.model.wire import MAX_FRAME, MAX_RATE

PARSERS = [
    channel.parse_hello,
    channel.parse_report,
    channel.parse_retired,
    channel.parse_exit,
]
KEYS = [
    "protocol", "scheduler_address", "dashboard_address", "versions", "workers", "added",
    "removed", "threads", "clients", "tasks", "memory", "memory_limit", "cpu", "scheduler",
    "idle", "target", "id", "names", "error", "job", "code", "reason", "tail",
]  # fmt: skip


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = [
    10**400,
    -(10**400),
    float("nan"),
    float("inf"),
    1e308,
    "x" * 100_000,
    "\x1b[2J\n2026-01-01 forged line\r\0",
    "\u202edrawkcab",
    nested(900),
    {"a": nested(900)},
    [None, True, 1.5, "w1-1", {}],
    True,
    {},
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("key", KEYS)
def test_any_value_anywhere(parse, key):
    good = {"protocol": 1, "scheduler_address": "tls://127.0.0.1:1", "job": "w1-1", "id": 1}
    for value in HOSTILE:
        message = {**good, key: value}
        said, error = tried(parse, message)
        assert error.isprintable()
        assert len(error) < 400
        assert len(said) < 40_000


def tried(parse, message) -> tuple[str, str]:
    """(what came of a message, what is wrong with it)."""
    try:
        return repr(parse(message)), ""
    except Invalid as error:
        return "", str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(KEYS), inner),
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_json(message):
    for parse in PARSERS:
        assert tried(parse, message)[1].isprintable()


def test_text_that_would_forge_lines_is_made_plain():
    report = {
        "job": "s0-0",
        "code": 1,
        "reason": "\x1b[31m\r\n2026 forged",
        "tail": "a\nb\x1b]0;title\x07\r",
    }
    said = channel.parse_exit(report)
    assert said.reason == " [31m  2026 forged"
    assert said.tail == "a\nb ]0;title  "


@pytest.mark.parametrize("code", [10**9, -(10**9), 1.5, "1", True, [1]])
def test_exit_codes_that_are_none(code):
    with pytest.raises(Invalid, match="code"):
        channel.parse_exit({"job": "s0-0", "code": code})


def test_a_million_names_are_too_many():
    with pytest.raises(Invalid, match="at most 100000 names"):
        channel.parse_report({"added": ["w1-1"] * 1_000_000})


def cluster(limits=Limits(), **scaling) -> Cluster:
    group = GroupSpec(backend="local", python="python")
    return Cluster(
        name="0" * 32,
        user="ada",
        owner="ada",
        spec=ClusterSpec("default", group, {"default": group}, limits),
        options={},
        token="t",
        tls_cert="",
        tls_key="",
        created_at=0,
        status=Status.RUNNING,
        scaling={"default": Scaling(**scaling)},
    )


@pytest.mark.parametrize(
    ("limits", "scaling", "expected"),
    [
        (Limits(max_workers=7), {"adaptive": True}, 7),
        (Limits(), {"adaptive": True, "maximum": 5}, 5),
        (Limits(max_workers=3), {"adaptive": True, "maximum": 5}, 3),
        (Limits(), {"adaptive": True}, quota.MOST_WORKERS),
        (Limits(max_workers=7), {"count": 2}, 2),
    ],
)
def test_a_target_is_never_believed_beyond_the_limits(limits, scaling, expected):
    wished = quota.desired(cluster(limits, **scaling), {"default": 1}, 10**9)
    assert wished == {"default": expected}


def test_an_allowance_bounds_what_is_parsed():
    """Of a minute of the largest frames, some pass; small ones all do."""
    allowance = Allowance.full(0.0)
    frame = json.dumps({"op": "report", "added": ["w1-0"] * 99_000})
    assert len(frame) < MAX_FRAME
    passed = sum(
        allowance.frames.take(at / MAX_RATE) and allowance.volume.take(at / MAX_RATE, len(frame))
        for at in range(60 * MAX_RATE)
    )
    assert 4 <= passed <= 10
    honest = Allowance.full(0.0)
    for at in range(60 * MAX_RATE):
        now = at / MAX_RATE
        assert honest.frames.take(now)
        assert honest.volume.take(now, 1000)
