"""Sections about the server itself: where it keeps things, where it listens, how it is guarded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from penstock.settings.base import AbsolutePath, Address, Name, Section, split_address
from penstock.settings.units import Duration


def default_state_dir() -> Path:
    """``/var/lib/penstock`` for root, else ``$XDG_STATE_HOME/penstock`` (XDG base directories)."""
    if os.geteuid() == 0:
        return Path("/var/lib/penstock")
    base = os.environ.get("XDG_STATE_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path("~/.local/state").expanduser()
    return home / "penstock"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Urls = Annotated[
    tuple[Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(:[0-9]+)?/?$")], ...],
    BeforeValidator(_listed),
]


class ServerSettings(Section):
    """The server as a whole."""

    state_dir: AbsolutePath = Field(
        default_factory=default_state_dir,
        description="Directory (0700) of the database, keys and sockets. On a local disk.",
        json_schema_extra={
            "default_text": "/var/lib/penstock for root, else ~/.local/state/penstock"
        },
    )
    agent_url: Urls = Field(
        default=(),
        description="Address, or several in order, at which the jobs reach this server, e.g. "
        '"https://gateway.example.org". Not set: the first listening address.',
    )
    door_address: Address | None = Field(
        default=None,
        description='"host:port" at which workers with `scheduler_route = "door"` reach the front '
        "door. Not set: host and port of the first agent_url, or the port of scheduler_address.",
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="CA certificates (PEM) that the jobs trust for agent_url, besides the system's.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important log lines that are written."
    )
    log_format: Literal["human", "json"] = Field(
        default="human", description="Log lines for people, or as JSON for programs."
    )
    history: Duration = Field(
        default=30 * 86400.0,
        description="How long ended clusters, their events and logs are kept.",
    )


class ListenSettings(Section):
    """One listening address. Several, each with its own default profile, are like several gateways."""

    address: Address = Field(
        default="127.0.0.1:8000",
        description='"host:port"; HTTP and the schedulers\' TLS share it. ":8000" is every address.',
    )
    default_profile: Name | None = Field(
        default=None,
        description="Profile of users who name none. Not set: the first profile that they may use.",
    )
    tls_cert: AbsolutePath | None = Field(
        default=None, description="Certificate chain (PEM) for HTTPS; read again when it changes."
    )
    tls_key: AbsolutePath | None = Field(
        default=None, description="Private key (PEM) of tls_cert; may be the same file."
    )
    scheduler_address: Address | None = Field(
        default=None,
        description="A second address for the schedulers' traffic alone, if firewalls ask for it.",
    )

    @model_validator(mode="after")
    def _together(self) -> ListenSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be set together")
        return self

    @property
    def endpoint(self) -> tuple[str, int]:
        """(host, port) of the address."""
        return split_address(self.address)

    @property
    def scheduler_endpoint(self) -> tuple[str, int] | None:
        """(host, port) of the second address, if there is one."""
        return split_address(self.scheduler_address) if self.scheduler_address else None

    @property
    def url(self) -> str:
        """``http(s)://host:port``, with the loopback address for "every address"."""
        host, port = self.endpoint
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class DoorSettings(Section):
    """The front door's patience."""

    per_address: int = Field(
        default=4096,
        gt=0,
        description="Connections at a time that one client address may hold in the door.",
    )
    sniff_timeout: Duration = Field(
        default=10.0,
        description="How long a client may take until its first bytes tell what it wants.",
    )
    pending: int = Field(
        default=1024, gt=0, description="Connections that may wait while the server is away."
    )
    pending_timeout: Duration = Field(default=30.0, description="How long each of them may wait.")
    connect_timeout: Duration = Field(
        default=10.0, description="How long the door tries to reach a scheduler."
    )


class DashboardSettings(Section):
    """The clusters' dashboards in the browser."""

    ticket_lifetime: Duration = Field(
        default=3600.0, description="How long a dashboard link opens without a login."
    )
    session_lifetime: Duration = Field(
        default=12 * 3600.0,
        description="How long a browser stays logged in to one cluster's pages.",
    )
    page_lifetime: Duration = Field(
        default=4 * 3600.0, description="How long a page that stays open may load more."
    )
    frame_ancestors: tuple[str, ...] = Field(
        default=("'self'",),
        description="Origins whose pages may frame dashboards (CSP sources), such as a JupyterHub's.",
    )
