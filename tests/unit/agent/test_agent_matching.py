"""Which versions do not match, and who is told of it how often."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from penstock.agent.matching import (
    MOST_KINDS,
    Kind,
    Matching,
    kind_of,
    matches,
    mismatch_warning,
    own_kind,
)

OWN = Kind("scheduler", "3.11.2", "2026.8.0", "2026.8.0")
OLD = Kind("worker", "3.9.2", "2023.12.1", "2023.12.1")


def said(kind: Kind) -> dict[str, object]:
    """As distributed says it."""
    packages = {"distributed": kind.distributed, "dask": kind.dask, "numpy": "2"}
    return {"host": {"python": f"{kind.python}.final.0"}, "packages": packages}


def test_what_others_say_of_themselves():
    assert kind_of("worker", said(OLD)) == OLD
    for nonsense in (None, "text", {}, {"host": [], "packages": 7}, {"host": {"python": 3}}):
        assert kind_of("worker", nonsense) == Kind("worker", "", "", "")
    assert own_kind().python.count(".") == 2
    assert own_kind().distributed
    long = Kind("worker", "3" * 999, "x" * 999, "y")
    assert max(map(len, kind_of("worker", said(long)))) == 40


@pytest.mark.parametrize(
    ("python", "distributed", "dask", "fits"),
    [
        ("3.11.7", "2026.8.0", "2026.8.0", True),
        ("3.12.2", "2026.8.0", "2026.8.0", False),
        ("3.11.2", "2026.8.1", "2026.8.0", False),
        ("3.11.2", "2026.8.0", "2026.7.0", False),
        ("", "", "", True),
        ("", "", "1", False),
    ],
)
def test_what_fits(python, distributed, dask, fits):
    assert matches(OWN, Kind("worker", python, distributed, dask)) is fits


class Cluster:
    """What is looked at of a scheduler."""

    def __init__(self) -> None:
        self.workers: dict[str, object] = {}
        self.clients: dict[str, object] = {}
        self.client_comms: dict[str, object] = {}
        self.heard: list[tuple[str, str]] = []
        self.matching = Matching(self, OWN)

    def add_workers(self, *kinds: Kind) -> None:
        for kind in kinds:
            self.workers[f"w{len(self.workers)}"] = SimpleNamespace(versions=said(kind))

    def connect(self, key: str, kind: Kind = OWN) -> None:
        self.clients[key] = SimpleNamespace(versions=said(kind))

        def send(message: dict[str, object]) -> None:
            assert (message["op"], message["topic"]) == ("event", "warn")
            self.heard.append((key, message["event"][1]))

        self.client_comms[key] = SimpleNamespace(send=send)

    def look(self) -> list[tuple[str, str]]:
        """One look; what was heard since the last one."""
        self.heard.clear()
        self.matching.look(list(self.clients))
        return list(self.heard)


def test_clients_are_warned_once_of_each_kind_whenever_they_come():
    cluster = Cluster()
    words = mismatch_warning(OWN, OLD)
    assert "Python 3.9.2, distributed 2023.12.1 and dask 2023.12.1, its scheduler Python" in words
    cluster.connect("early")
    cluster.add_workers(OWN, OLD, OLD)
    assert cluster.look() == []  # who has only just come is not ready
    assert cluster.look() == [("early", words)]
    assert cluster.look() == []
    cluster.connect("late")  # Dask tells it: these workers were there before
    assert cluster.look() == []
    assert cluster.look() == []
    other = OLD._replace(dask="1")
    cluster.add_workers(other)
    assert sorted(cluster.look()) == [
        (key, mismatch_warning(OWN, other)) for key in ("early", "late")
    ]
    cluster.workers.clear()
    assert cluster.look() == []
    assert cluster.matching.report() == []


def test_workers_that_come_together_with_a_client_are_told_of():
    """Dask may have looked at the workers before these were there."""
    cluster = Cluster()
    cluster.add_workers(OLD)
    cluster.look()
    cluster.workers.clear()
    cluster.connect("one")
    cluster.add_workers(OLD)
    assert cluster.look() == []
    assert cluster.look() == [("one", mismatch_warning(OWN, OLD))]


def test_a_client_of_other_versions_is_reported_and_hears_of_it_from_dask():
    cluster = Cluster()
    cluster.connect("one", OLD)
    cluster.look()
    assert cluster.look() == []
    versions = {"python": "3.9.2", "distributed": "2023.12.1", "dask": "2023.12.1"}
    assert cluster.matching.report() == [{"who": "client", "count": 1, "versions": versions}]


def test_made_up_versions_do_not_grow_without_bound():
    cluster = Cluster()
    cluster.add_workers(*(OLD._replace(dask=str(number)) for number in range(50)), OLD, OLD)
    cluster.look()
    assert len(cluster.matching.report()) == MOST_KINDS
