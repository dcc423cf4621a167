"""The whole configuration."""

from __future__ import annotations

import os
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from penstock.settings.auth import AuthSettings, SingleAuth, UsersSettings, this_user
from penstock.settings.backends import BackendSettings, LocalBackendSettings
from penstock.settings.base import Name, Section, split_address
from penstock.settings.profiles import ProfileSettings
from penstock.settings.server import (
    DashboardSettings,
    DoorSettings,
    ListenSettings,
    ServerSettings,
)


def _addresses(value: Any) -> Any:
    """Plain addresses as in ``PENSTOCK_LISTEN=127.0.0.1:8000,:9000`` are listeners too."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        return items
    return [{"address": item.strip()} if isinstance(item, str) else item for item in items]


class Settings(Section):
    """Everything that is configured. Every section has defaults, for one user on one machine."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    listen: Annotated[tuple[ListenSettings, ...], BeforeValidator(_addresses)] = Field(
        default_factory=lambda: (ListenSettings(),), min_length=1
    )
    door: DoorSettings = Field(default_factory=DoorSettings)
    auth: AuthSettings = Field(default_factory=SingleAuth)
    users: UsersSettings = Field(default_factory=UsersSettings)
    dashboards: DashboardSettings = Field(default_factory=DashboardSettings)
    profiles: dict[Name, ProfileSettings] = Field(
        default_factory=lambda: {"default": ProfileSettings()}, min_length=1
    )
    backends: dict[Name, BackendSettings] = Field(
        default_factory=lambda: dict[str, BackendSettings](
            local=LocalBackendSettings(type="local")
        ),
        min_length=1,
    )

    def unix_user(self, name: str) -> str:
        """As which Unix user the jobs of an authenticated user run."""
        run_as = self.users.run_as or ("{user}" if self._acts_for_users else this_user())
        return self.auth.unix_name(name) if run_as == "{user}" else run_as

    @property
    def _acts_for_users(self) -> bool:
        ways = {getattr(section, "act_by", "itself") for section in self.backends.values()}
        return ways != {"itself"} or os.geteuid() == 0

    @property
    def agent_urls(self) -> tuple[str, ...]:
        """Where jobs reach this server, in the order to try."""
        return tuple(url.rstrip("/") for url in self.server.agent_url) or (self.listen[0].url,)

    @property
    def door_address(self) -> str:
        """``tls://host:port`` of the front door, as workers reach it."""
        parts = urlsplit(self.agent_urls[0])
        host = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        second = self.listen[0].scheduler_endpoint
        if self.server.door_address is not None:
            host, port = split_address(self.server.door_address)
        elif second is not None:
            port = second[1]
        return f"tls://[{host}]:{port}" if ":" in host else f"tls://{host}:{port}"

    @property
    def database_url(self) -> str:
        """The database, as ``Store.open`` takes it."""
        return f"sqlite:///{self.server.state_dir}/penstock.db"
