"""Signed permissions to look at one cluster's dashboard, of three kinds.

A ticket travels in the link that the API hands to the user: it lives for minutes, works as often
as it is opened, and becomes a session. A session is a cookie for that cluster's path. A capability
stands in the path of the pages that are shown: their sandbox has no cookies, so what they load is
known by it alone; it never becomes a session. Each kind has its own signing purpose, so that
none passes for another. Nothing is stored: a restarted server honours them all.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from penstock.auth import Signer, User
from penstock.dashboards.origin import PREFIX
from penstock.model.cluster import Cluster


class Kind(str, enum.Enum):
    """What a grant is good for; the value is its signing purpose."""

    TICKET = "dashboard-ticket"
    CAPABILITY = "dashboard-capability"
    SESSION = "dashboard-session"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long grants hold, in seconds.

    ``ticket``: a link printed in a notebook. ``session``: the cookie. ``capability``: what a page
    that stays open may still load; a reload with a valid cookie renews it.
    """

    ticket: float = 3600.0
    session: float = 12 * 3600.0
    capability: float = 4 * 3600.0

    def of(self, kind: Kind) -> float:
        """Seconds that a new grant of this kind lives."""
        return {
            Kind.TICKET: self.ticket,
            Kind.SESSION: self.session,
            Kind.CAPABILITY: self.capability,
        }[kind]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks."""

    user: str

    @classmethod
    def of(cls, user: User) -> Viewer:
        """The viewer that an authenticated user is."""
        return cls(user.name)

    def may_see(self, cluster: Cluster) -> bool:
        """True for the cluster's own user alone: the pages show code, data and output of jobs."""
        return self.user == cluster.user


@dataclass(frozen=True, slots=True)
class Grants:
    """Makes and reads the grants of all clusters."""

    signer: Signer
    lifetimes: Lifetimes = Lifetimes()

    def make(self, kind: Kind, cluster: str, viewer: Viewer, now: float) -> str:
        """A signed grant that is valid from now on; safe in a path and in a cookie.

        Capabilities end on a common grid of quarters of their life, so that a page opened twice
        has the same address, and the browser its scripts still at hand.
        """
        life = self.lifetimes.of(kind)
        expires = now + life
        if kind is Kind.CAPABILITY:
            expires = (math.floor(now / (life / 4)) + 5) * (life / 4)
        payload = {"c": cluster, "u": viewer.user}
        return self.signer.sign(kind.value, payload, expires)

    def read(self, kind: Kind, token: str, cluster: str, now: float) -> Viewer | None:
        """Whom a token of that kind admits to that cluster; None when it is not valid for it."""
        payload = self.signer.verify(kind.value, token, now)
        if payload is None or payload.get("c") != cluster:
            return None
        user = payload.get("u")
        return Viewer(user) if isinstance(user, str) and user else None


def ticket_route(
    cluster: Cluster,
    user: User,
    signer: Signer,
    now: float,
    *,
    lifetimes: Lifetimes = Lifetimes(),
) -> str:
    """The path of a link that opens the cluster's dashboard for this user without a prompt.

    ``now`` in seconds since the epoch. The ticket stands in the path and not in the query, because
    programs that take a dashboard's address (JupyterLab's Dask extension) append to its path.
    """
    ticket = Grants(signer, lifetimes).make(Kind.TICKET, cluster.name, Viewer.of(user), now)
    return f"{PREFIX}{cluster.name}/~{ticket}/status"
