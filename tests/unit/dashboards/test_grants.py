"""Tickets, sessions and capabilities: each good for one thing, one cluster, one time."""

from __future__ import annotations

import pytest

from penstock.auth import Signer, User
from penstock.dashboards import ticket_route
from penstock.dashboards.grants import Grants, Kind, Lifetimes, Viewer
from penstock.dashboards.paths import parse
from rigs.dashboards import make_cluster

NOW = 1_800_000_000.0
SIGNER = Signer(b"0123456789abcdef0123456789abcdef")
GRANTS = Grants(SIGNER, Lifetimes(ticket=600, session=7200, capability=4000))
ALICE = Viewer("alice")
NAME, OTHER = "a" * 32, "b" * 32


@pytest.mark.parametrize("kind", Kind)
def test_a_grant_admits_its_viewer_to_its_cluster(kind: Kind) -> None:
    token = GRANTS.make(kind, NAME, ALICE, NOW)
    assert GRANTS.read(kind, token, NAME, NOW) == ALICE
    assert GRANTS.read(kind, token, OTHER, NOW) is None


@pytest.mark.parametrize("kind", Kind)
def test_no_kind_passes_for_another(kind: Kind) -> None:
    token = GRANTS.make(kind, NAME, ALICE, NOW)
    assert [each for each in Kind if GRANTS.read(each, token, NAME, NOW)] == [kind]


@pytest.mark.parametrize(("kind", "life"), [(Kind.TICKET, 600), (Kind.SESSION, 7200)])
def test_tickets_and_sessions_end_when_they_should(kind: Kind, life: float) -> None:
    token = GRANTS.make(kind, NAME, ALICE, NOW)
    assert GRANTS.read(kind, token, NAME, NOW + life - 1) == ALICE
    assert GRANTS.read(kind, token, NAME, NOW + life) is None


@pytest.mark.parametrize("into", [0, 1, 500, 999])
def test_capabilities_of_one_quarter_are_the_same_and_live_at_least_their_life(into: float) -> None:
    start = NOW // 1000 * 1000
    first = GRANTS.make(Kind.CAPABILITY, NAME, ALICE, start)
    token = GRANTS.make(Kind.CAPABILITY, NAME, ALICE, start + into)
    assert token == first
    assert GRANTS.read(Kind.CAPABILITY, token, NAME, start + into + 4000) == ALICE
    assert GRANTS.read(Kind.CAPABILITY, token, NAME, start + 5000) is None


@pytest.mark.parametrize("token", ["", "x", "x.y", "é.é", "." * 50, "a" * 9000])
def test_rubbish_admits_nobody(token: str) -> None:
    assert GRANTS.read(Kind.SESSION, token, NAME, NOW) is None


def test_another_gateways_grant_admits_nobody() -> None:
    token = Grants(Signer(b"f" * 32)).make(Kind.TICKET, NAME, ALICE, NOW)
    assert GRANTS.read(Kind.TICKET, token, NAME, NOW) is None


def test_only_the_user_may_see() -> None:
    cluster = make_cluster("alice", "")
    assert Viewer("alice").may_see(cluster)
    assert not Viewer("bob").may_see(cluster)
    assert not Viewer.of(User("root", admin=True)).may_see(cluster)


def test_ticket_route_is_a_path_that_the_proxy_reads() -> None:
    cluster = make_cluster("alice", "")
    route = ticket_route(cluster, User("alice", frozenset(), admin=False), SIGNER, NOW)
    asked = parse(route)
    assert asked is not None
    assert (asked.name, asked.page) == (cluster.name, "/status")
    assert GRANTS.read(Kind.TICKET, asked.token or "", cluster.name, NOW) == ALICE
