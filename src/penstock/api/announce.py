"""Which addresses a scheduler may announce, and to whom it speaks: a hostile one must gain nothing.

Whoever has a cluster controls its agent. Were any address believed, the door and the dashboards
would be a way around the facility's firewall. So an agent may only name the host that it speaks
from, or a network that the profile lists; never a port of the gateway's own, and on the gateway's
own host only a port on which a process of the cluster's owner listens.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.model.errors import Invalid

Address = tuple[str, int]
IP = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Speaker:
    """Where an agent's connection comes from: ``peer`` its address, ``local`` ours on it."""

    peer: str
    local: str

    @property
    def same_host(self) -> bool:
        """True when the agent runs on the gateway's own host."""
        peer = _ip(self.peer)
        return peer is not None and (peer.is_loopback or peer == _ip(self.local))


def vet(
    url: object,
    scheme: str,
    speaker: Speaker,
    *,
    networks: Sequence[str],
    own_ports: Collection[int],
    listens_as_owner: Callable[[str, int], bool],
) -> Address:
    """The (host, port) that ``url`` announces. Raises Invalid when it may not be announced.

    ``networks`` are CIDR texts besides the speaker's own address; ``own_ports`` the gateway's;
    ``listens_as_owner(host, port)`` looks at this host's listening sockets.
    """
    host, port = _split(url, scheme)
    ip = _ip(host)
    if ip is None or ip.is_unspecified or ip.is_multicast:
        raise Invalid(f"The scheduler announced {host!r}, which is not the address of one host")
    peer = _ip(speaker.peer)
    at_home = ip == peer or (speaker.same_host and (ip.is_loopback or ip == _ip(speaker.local)))
    if not at_home and not any(ip in ipaddress.ip_network(net) for net in networks):
        raise Invalid(
            f"The scheduler announced {host}, but speaks from {speaker.peer}; "
            "an admin can allow its network in the profile (limits.networks)"
        )
    if speaker.same_host or ip == _ip(speaker.local) or ip.is_loopback:
        if port in own_ports:
            raise Invalid(f"The scheduler announced port {port}, which is the gateway's own")
        if not listens_as_owner(str(ip), port):
            raise Invalid(
                f"The scheduler announced {host}:{port}, where no process of its owner listens"
            )
    return str(ip), port


def _split(url: object, scheme: str) -> Address:
    if not isinstance(url, str) or len(url) > 200:
        raise Invalid("The scheduler announced something that is not an address")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        plain = f"{scheme}://{parts.netloc}" == url.rstrip("/") and "@" not in url
    except ValueError:
        host, port, plain = None, None, False
    if not host or not port or not plain:
        raise Invalid(f"The scheduler announced {url!r}, not {scheme}://<address>:<port>")
    return host, port


def _ip(text: str) -> IP | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
