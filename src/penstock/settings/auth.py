"""Sections about people: how they prove who they are, and as which Unix user their jobs run."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator

from penstock.model.errors import SettingsError
from penstock.settings.base import AbsolutePath, Section


def this_user() -> str:
    """The Unix name of the user that this process runs as (the uid as text if it has none)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class _Auth(Section):
    """What all ways to authenticate share."""

    admins: tuple[str, ...] = Field(
        default=(), description="Users who may see and stop every cluster."
    )
    admin_groups: tuple[str, ...] = Field(
        default=(), description="Groups whose members are admins."
    )
    monitors: tuple[str, ...] = Field(
        default=(), description="Users who may read /metrics, as admins may."
    )
    groups: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Groups of this gateway, each with its members' names, besides the Unix groups.",
    )
    unix_groups: bool = Field(
        default=True, description="Whether users have the groups of the Unix user that they are."
    )
    unix_names: dict[str, str] = Field(
        default_factory=dict,
        description="Unix users by the names of users who log in under another name.",
    )
    strip_domain: bool = Field(
        default=False, description="Whether anna@example.org is the Unix user anna."
    )

    def unix_name(self, name: str) -> str:
        """The Unix user that an authenticated user is."""
        if name in self.unix_names:
            return self.unix_names[name]
        return name.partition("@")[0] if self.strip_domain else name


class SingleAuth(_Auth):
    """One Unix user only, with a password that the gateway makes for them."""

    type: Literal["single"] = Field(
        default="single", description="`single`: one user, and a generated password."
    )
    user: str = Field(
        default_factory=this_user,
        min_length=1,
        description="The only name that gets in.",
        json_schema_extra={"default_text": "the Unix user that the server runs as"},
    )


class BasicAuth(_Auth):
    """Names and passwords over HTTP Basic."""

    type: Literal["basic"] = Field(
        description="`basic`: names and passwords. Set one of password, password_file, users_file."
    )
    password: SecretStr | None = Field(
        default=None,
        description="One password for every name: for trials and tutorials, anybody can be anybody.",
    )
    password_file: AbsolutePath | None = Field(
        default=None, description="A file whose first line is that one password."
    )
    users_file: AbsolutePath | None = Field(
        default=None,
        description="A file of `name:hash` lines with bcrypt (`htpasswd -B`) or argon2 hashes; read "
        "again when it changes.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> BasicAuth:
        if sum(x is not None for x in (self.password, self.password_file, self.users_file)) != 1:
            raise ValueError("set exactly one of password, password_file and users_file")
        if self.password is not None and not self.password.get_secret_value():
            raise ValueError("the password is empty: anybody could be anybody")
        return self

    def shared_password(self) -> str:
        """The one password for all; empty when there is a users_file. Raises SettingsError."""
        if self.password is not None:
            return self.password.get_secret_value()
        return read_secret(self.password_file) if self.password_file else ""


class CustomAuth(_Auth):
    """A site's own class."""

    type: Literal["custom"] = Field(description="`custom`: a class of the site's own.")
    class_: str = Field(
        alias="class",
        pattern=r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$",
        description='Where the class is, as "package.module:Class"; see `penstock.auth.Authenticator`.',
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments for it. Never shown."
    )


AuthSettings = Annotated[SingleAuth | BasicAuth | CustomAuth, Field(discriminator="type")]


class UsersSettings(Section):
    """As which Unix user a user's jobs run."""

    run_as: str = Field(
        default="",
        description="The account of all jobs, or \"{user}\" for each user's own. Not set: each user's "
        "own if the server runs as root or a backend's `act_by` says how else, otherwise the server's.",
    )
    min_uid: int = Field(
        default=1000,
        ge=0,
        description="Jobs never run as Unix users below this uid (root, daemons), except as the "
        "server's own account and in single-user mode.",
    )


def read_secret(path: Path) -> str:
    """The first line of a file. Raises SettingsError when there is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{path} cannot be read: {reason}") from error
    if not lines or not lines[0].strip():
        raise SettingsError(f"{path} has no password in its first line")
    return lines[0].strip()
