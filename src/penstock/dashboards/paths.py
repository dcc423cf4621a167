"""Paths and addresses that pass between browser and scheduler: what they may be, and become.

A path goes on byte for byte as it came (Dask has escaped addresses and task keys in its paths:
``/info/worker/tls%3A%2F%2F10.0.0.5%3A4711.html``), so decoding and encoding again would break it.
What could mean another place than it seems (dot segments in any spelling, control characters,
anything that no browser sends) is refused instead of repaired.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from penstock.dashboards.origin import PREFIX

MAX_PATH = 8000
"""Longest path with query, in bytes."""

FIRST_PAGE = "/status"

PAD = "-"
"""A path segment without a meaning, after the capability in the address of every page.

Dask's ``/info`` pages name their style sheets by one ``..`` too many (``rel_path_statics`` in
distributed's ``http/scheduler/info.py``): harmless at the root of a host, and here with this.
"""

_ASKED = re.compile(
    re.escape(PREFIX)
    + r"(?P<name>[0-9a-f]{32})(?:/~(?P<token>[^/]*)(?P<pad>/-(?=/))?)?(?P<page>/.*)?"
)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/|^\[\]-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"[!-~]*")  # visible ASCII; '#' never arrives here
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"(/clusters/[0-9a-f]{32}/~)[^/?#\s\"]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request's path names: a cluster, perhaps a token, and one of the cluster's pages.

    ``page`` is the path on the scheduler's server, with its query. ``token`` is None without "~";
    ``padded``: ``PAD`` follows it.
    """

    name: str
    token: str | None
    page: str
    padded: bool = False

    @property
    def prefix(self) -> str:
        """What stands before the page in the browser's path."""
        token = f"/~{self.token}" if self.token is not None else ""
        return f"{PREFIX}{self.name}{token}{f'/{PAD}' if self.padded else ''}"

    def under(self, capability: str) -> str:
        """The browser's path of the same page under a capability."""
        return Asked(self.name, capability, self.page, padded=True).prefix + self.page


def parse(raw_path: str) -> Asked | None:
    """The parts of a raw request target; None when it is none that Penstock passes on."""
    match = _ASKED.fullmatch(raw_path)
    if match is None:
        return None
    page = match["page"] or FIRST_PAGE
    padded = match["pad"] is not None
    return Asked(match["name"], match["token"], page, padded) if valid_page(page) else None


def valid_page(page: str) -> bool:
    """True for a path (with query) that may be sent to a scheduler as it stands."""
    path, _, query = page.partition("?")
    if len(page) > MAX_PATH or not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        return False
    plain = unquote_to_bytes(path)
    pieces = re.split(rb"[/\\]", plain)
    return not _CONTROL.search(plain) and not {b".", b".."} & set(pieces) and "#" not in query


def upstream(dashboard_address: str) -> str | None:
    """``http://<ip>:<port>`` of a cluster's own server; None when the address is anything else.

    Only literal IP addresses: a name that was vetted once may mean another host later.
    """
    try:
        parts = urlsplit(dashboard_address)
        host, port = parts.hostname or "", parts.port
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if parts.scheme != "http" or not port or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    shown = f"[{ip}]" if ip.version == 6 else str(ip)
    return f"http://{shown}:{port}" if parts.path in ("", "/") else None


def rewrite_location(location: str, base: str, page: str, prefix: str) -> str | None:
    """The browser's address for a redirect from ``base + page``; None when it leads elsewhere.

    ``base`` as ``upstream`` gives it; ``prefix`` as ``Asked.prefix``.
    """
    if not re.fullmatch(r"[!-~]+", location) or "\\" in location:
        return None
    try:
        target = urlsplit(urljoin(base + page, location))
    except ValueError:
        return None
    if f"{target.scheme}://{target.netloc}" != base:
        return None
    there = (target.path or "/") + (f"?{target.query}" if target.query else "")
    fragment = f"#{target.fragment}" if target.fragment else ""
    return prefix + there + fragment if valid_page(there) else None


def masked(text: str) -> str:
    """A path or log line without the tokens of dashboards: for access logs."""
    return _TOKEN.sub(r"\1…", text)
