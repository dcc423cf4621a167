"""The authenticator that the settings ask for, with groups and admins as they say."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from penstock.auth.base import Authenticator, User, check_user_name
from penstock.auth.basic import BasicAuthenticator
from penstock.auth.identity import lookup
from penstock.auth.passwords import PasswordFile, SharedPassword
from penstock.model.errors import Invalid, SettingsError, Unauthenticated
from penstock.settings.auth import AuthSettings, BasicAuth, CustomAuth


def build_authenticator(auth: AuthSettings, password: Callable[[], str]) -> Completing:
    """The authenticator of ``[auth]``. ``password()`` is the generated one of single-user mode.

    Raises SettingsError when a password file, or a site's own class, cannot be used.
    """
    return Completing(_inner(auth, password), auth)


def _inner(auth: AuthSettings, password: Callable[[], str]) -> Authenticator:
    if isinstance(auth, CustomAuth):
        return load_custom(auth.class_, auth.kwargs)
    if not isinstance(auth, BasicAuth):
        return BasicAuthenticator(SharedPassword(password(), only=auth.user))
    if auth.users_file is not None:
        return BasicAuthenticator(PasswordFile(auth.users_file))
    return BasicAuthenticator(SharedPassword(auth.shared_password()))


def load_custom(where: str, kwargs: Mapping[str, Any]) -> Authenticator:
    """An instance of a site's class, named ``package.module:Class`` or with a dot instead.

    Raises SettingsError, which never quotes the arguments.
    """
    module, _, name = where.replace(":", ".").rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(**kwargs)
    except Exception as error:
        kind = type(error).__name__
        text = (
            "" if kwargs and not isinstance(error, (ImportError, AttributeError)) else f": {error}"
        )
        raise SettingsError(f"auth.class {where} cannot be used: {kind}{text}") from error
    if not isinstance(getattr(made, "challenge", None), str) or not callable(
        getattr(made, "authenticate", None)
    ):
        raise SettingsError(
            f"auth.class {where} is no authenticator: it needs the text `challenge` and the "
            "method `authenticate`, see penstock.auth.Authenticator"
        )
    authenticator: Authenticator = made
    return authenticator


class Completing:
    """Adds what the settings know about a user; whoever authenticated them only knows the name."""

    def __init__(self, inner: Authenticator, auth: AuthSettings) -> None:
        self._inner = inner
        self._auth = auth
        self.challenge = inner.challenge
        self._about = auth.model_dump_json()

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        """See Authenticator."""
        try:
            user = await self._inner.authenticate(headers)
            check_user_name(user.name)
        except Unauthenticated as error:
            error.challenge = error.challenge or self.challenge
            raise
        auth = self._auth
        groups = set(user.groups)
        groups.update(group for group, names in auth.groups.items() if user.name in names)
        if auth.unix_groups:
            groups |= await asyncio.to_thread(self._unix_groups, user.name)
        admin = user.admin or user.name in auth.admins or not groups.isdisjoint(auth.admin_groups)
        return replace(user, groups=frozenset(groups), admin=admin)

    async def proof(self, name: str) -> str:
        """What a login of this user rests on: their password and the settings about people.

        A session that was begun under another proof is over. Raises SettingsError when a password
        file cannot be read.
        """
        ask = getattr(self._inner, "proof", None)
        return f"{await ask(name) if ask is not None else ''}\0{self._about}"

    def _unix_groups(self, name: str) -> frozenset[str]:
        try:
            return lookup(self._auth.unix_name(name)).group_names
        except Invalid:
            return frozenset()
