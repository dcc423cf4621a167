"""A site's own authenticator for tests: JupyterHub's tokens from a table, and one password for all."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from penstock.auth import User
from penstock.auth.base import check_user_name
from penstock.model.errors import Unauthenticated


class HubAuth:
    """``tokens``: token → user name."""

    challenge = "jupyterhub"

    def __init__(self, tokens: Mapping[str, str], password: str) -> None:
        self.tokens = dict(tokens)
        self.password = password

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        scheme, _, words = headers.get("authorization", "").partition(" ")
        if scheme == "jupyterhub" and words in self.tokens:
            return User(self.tokens[words])
        if scheme == "Basic":
            try:
                name, _, password = base64.b64decode(words).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                name = password = ""
            if password == self.password:
                return User(check_user_name(name))
        raise Unauthenticated("unknown token or password")
