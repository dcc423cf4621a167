"""Section about slurmrestd. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from penstock.settings.base import AbsolutePath, Section


class SlurmRestSettings(Section):
    """slurmrestd, with `act_by = "slurmrestd"`: where it is, and tokens to act for users with."""

    url: str = Field(
        description='Where it listens: `"unix:/run/slurmrestd.sock"`, `"https://…"`, or '
        '`"http://127.0.0.1:6820"`; tokens go over no network in the clear.',
    )
    token_file: AbsolutePath | None = Field(
        default=None,
        description="A file (0600) with a token of SlurmUser, which may act for everybody. It is "
        "read anew when it changes.",
    )
    token_command: tuple[str, ...] = Field(
        default=(),
        description="A command that prints a token of one user, `{user}` in its arguments, as "
        "`scontrol token` does.",
    )

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        if re.fullmatch(r"unix:/[^\x00-\x20]+", value):
            return value
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
            raise ValueError('must be "unix:/path", "https://host:port" or "http://127.0.0.1:port"')
        if parts.scheme == "http" and not _loopback(host):
            raise ValueError("tokens must not cross a network in the clear: use https or unix:")
        return value.rstrip("/")

    @field_validator("token_command")
    @classmethod
    def _of_a_user(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and (not value[0].startswith("/") or "{user}" not in " ".join(value[1:])):
            raise ValueError("must begin with an absolute path, and name {user} in an argument")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SlurmRestSettings:
        if (self.token_file is None) == (not self.token_command):
            raise ValueError("needs either token_file or token_command")
        return self


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
