from __future__ import annotations

import itertools
import json

import pytest

from penstock.agent import base, child
from penstock.agent.channel import Channel
from penstock.model import ids, wire

GOOD = {
    "role": "worker",
    "cluster": "c" * 32,
    "sequence": 3,
    "servers": ["http://127.0.0.1:1"],
    "token": "t",
    "tls_cert": "c",
    "tls_key": "k",
    "scheduler_address": "tls://127.0.0.1:2",
}


def test_constants_are_those_of_the_wire() -> None:
    assert base.PROTOCOL == wire.PROTOCOL
    assert base.MAX_FRAME == wire.MAX_FRAME
    assert base.MAX_TAIL == wire.MAX_TAIL
    assert base.CONFIG_FILE == wire.CONFIG_FILE


def test_a_config_gets_its_defaults() -> None:
    config = base.parse_config(json.dumps({**GOOD, "nthreads": 4, "ca": None, "later": 1}))
    assert config["nthreads"] == 4
    assert config["ca"] is None
    assert config["give_up"] == 86400.0
    assert config["token"] == "t"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "boss"}, "role must be scheduler or worker"),
        ({"sequence": "3"}, "sequence must be int"),
        ({"servers": None}, "servers must be list"),
        ({"scheduler_address": None}, "a worker needs scheduler_address"),
    ],
)
def test_a_config_that_cannot_be_used(change: dict[str, object], words: str) -> None:
    with pytest.raises(base.Broken, match=words):
        base.parse_config(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_that_is_none(text: str) -> None:
    with pytest.raises(base.Broken, match=r"penstock\.json"):
        base.parse_config(text)


def test_names_are_those_of_the_model() -> None:
    assert base.job_name({"role": "worker", "sequence": 3}, 4) == ids.worker_name(3, 4)
    assert base.job_name({"role": "scheduler", "sequence": 0}, 0) == "s0-0"
    assert base.job_index({"PENSTOCK_INDEX": "12"}) == 12
    assert base.job_index({}) == 0
    assert base.job_index({"PENSTOCK_INDEX": "x"}) == 0


def test_backoff_grows_to_a_bound() -> None:
    pauses = list(itertools.islice(base.backoff(), 50))
    assert 0.1 <= pauses[0] <= 0.2
    assert all(2.5 <= pause <= 5.0 for pause in pauses[10:])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2023.12.1", (2023, 12, 1)),
        ("2022.01.0+dirty", (2022, 1, 0)),
        ("2022.1.0rc1", (2022, 1, 0)),
        ("2021.9.1.dev5", (2021, 9, 1)),
        ("", ()),
        ("unknown", ()),
    ],
)
def test_version_tuple(text: str, numbers: tuple[int, ...]) -> None:
    assert child.version_tuple(text) == numbers


@pytest.mark.parametrize("version", ["2022.1.0", "2023.12.1", "2026.8.0"])
def test_distributed_that_is_new_enough(version: str) -> None:
    child.check_distributed(version)


def test_distributed_that_is_not() -> None:
    with pytest.raises(base.Broken, match=r"distributed 2021\.12\.0 in .* is too old: 2022\.1"):
        child.check_distributed("2021.12.0")
    with pytest.raises(base.Broken, match=r"^no distributed in .*: install dask and distributed"):
        child.check_distributed(None)


def test_an_exception_is_told_with_its_root() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "refused")
        except OSError as error:
            raise RuntimeError("could not\n start") from error
    except RuntimeError as error:
        text = child.describe(error)
    assert text == ("RuntimeError: could not start (ConnectionRefusedError: [Errno 111] refused)")
    assert child.describe(ValueError("x")) == "ValueError: x"


def test_hosts_before_a_port() -> None:
    assert [child.bracketed(host) for host in ("::1", "[::1]", "10.0.0.1", "node.x")] == [
        "[::1]",
        "[::1]",
        "10.0.0.1",
        "node.x",
    ]


def test_the_address_towards_a_server() -> None:
    assert child.address_towards(["http://127.0.0.1:8000"]) == "127.0.0.1"
    assert child.address_towards(["nonsense", "http://127.0.0.1"]) == "127.0.0.1"
    with pytest.raises(base.Failed, match="no address of this host"):
        child.address_towards(["http://[::"])


class TestHopeless:
    def channel(self) -> Channel:
        channel = Channel({"give_up": 1000.0}, dict, print)
        channel.last_contact = 100.0
        return channel

    def test_a_server_that_is_away_has_time(self) -> None:
        channel = self.channel()
        assert channel.hopeless(1100.0) == ""
        assert channel.hopeless(1101.0) == "no server for 1000 seconds"

    def test_a_connection_has_all_the_time(self) -> None:
        channel = self.channel()
        channel.socket = object()
        assert channel.hopeless(1e9) == ""

    def test_the_cluster_is_over(self) -> None:
        channel = self.channel()
        channel.note_refusal(410)
        assert "is over" in channel.hopeless(100.0)
        channel.note_refusal(0)
        assert channel.hopeless(100.0) == ""

    def test_nobody_knows_the_cluster(self) -> None:
        channel = self.channel()
        channel.refused_since = 100.0
        assert channel.hopeless(1000.0) == ""
        assert channel.hopeless(1001.0) == "the server has not known this cluster for 901 seconds"
