"""From the settings to an authenticator, with groups and admins."""

from __future__ import annotations

import base64
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from penstock.auth import User, lookup
from penstock.auth.build import build_authenticator
from penstock.model.errors import SettingsError, Unauthenticated
from penstock.settings import Settings

ME = pwd.getpwuid(os.geteuid()).pw_name


def build(**auth: Any):
    settings = Settings.model_validate({"auth": auth} if auth else {})
    return build_authenticator(settings.auth, lambda: "made at random")


def headers(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


class TokenAuthenticator:
    """What a site might write."""

    challenge = "Bearer"

    def __init__(self, token: str, name: str = "anna") -> None:
        self.token, self.name = token, name

    async def authenticate(self, headers: Mapping[str, str]) -> User:
        if headers.get("authorization") != f"Bearer {self.token}":
            raise Unauthenticated("Wrong token.")
        return User(self.name, frozenset({"from-token"}), reply={"WWW-Authenticate": "Bearer ok"})


class NoAuthenticator:
    """Something else."""


async def test_single_user() -> None:
    authenticator = build()
    user = await authenticator.authenticate(headers(ME, "made at random"))
    assert user == User(ME, lookup(ME).group_names)
    for name, password in ((ME, "wrong"), ("somebody", "made at random"), (ME, "")):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(headers(name, password))


async def test_shared_password_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("geheim\nsecond line\n")
    authenticator = build(type="basic", password_file=str(path))
    assert (
        await authenticator.authenticate(headers("no-unix-user", "geheim"))
    ).groups == frozenset()


async def test_users_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"anna:{bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\n")
    authenticator = build(type="basic", users_file=str(path))
    assert (await authenticator.authenticate(headers("anna", "x"))).name == "anna"


async def test_groups_and_admins() -> None:
    authenticator = build(
        type="basic",
        password="x",
        groups={"staff": ["anna", "bert"], "ops": ["bert"]},
        admins=["carl"],
        admin_groups=["ops"],
        unix_groups=False,
    )
    found = {n: await authenticator.authenticate(headers(n, "x")) for n in ("anna", "bert", "carl")}
    assert found == {
        "anna": User("anna", frozenset({"staff"})),
        "bert": User("bert", frozenset({"staff", "ops"}), admin=True),
        "carl": User("carl", admin=True),
    }


async def test_groups_of_the_unix_user_behind_the_name() -> None:
    for more in ({"strip_domain": True}, {"unix_names": {f"{ME}@x.org": ME}}):
        authenticator = build(type="basic", password="x", **more)
        user = await authenticator.authenticate(headers(f"{ME}@x.org", "x"))
        assert user.groups == lookup(ME).group_names


@pytest.mark.parametrize("mark", [":", "."])
async def test_custom(mark: str) -> None:
    authenticator = build(
        type="custom",
        **{"class": f"{__name__}{mark}TokenAuthenticator"},
        kwargs={"token": "t"},
        groups={"more": ["anna"]},
        unix_groups=False,
    )
    assert authenticator.challenge == "Bearer"
    user = await authenticator.authenticate({"authorization": "Bearer t"})
    assert user == User("anna", frozenset({"from-token", "more"}))
    assert user.reply == {"WWW-Authenticate": "Bearer ok"}
    with pytest.raises(Unauthenticated, match="Wrong token") as caught:
        await authenticator.authenticate({})
    assert caught.value.challenge == "Bearer"


async def test_a_custom_class_cannot_bring_in_any_name() -> None:
    where = f"{__name__}:TokenAuthenticator"
    authenticator = build(
        type="custom", **{"class": where}, kwargs={"token": "t", "name": "../root\n"}
    )
    with pytest.raises(Unauthenticated, match="cannot be a user name"):
        await authenticator.authenticate({"authorization": "Bearer t"})


@pytest.mark.parametrize(
    ("where", "kwargs", "words"),
    [
        ("no_such_package.x:C", {}, "ModuleNotFoundError: No module named 'no_such_package'"),
        (f"{__name__}:Nothing", {}, "AttributeError"),
        (f"{__name__}:TokenAuthenticator", {}, "missing 1 required positional argument: 'token'"),
        (f"{__name__}:TokenAuthenticator", {"tokn": "sesam"}, "cannot be used: TypeError"),
        (f"{__name__}:NoAuthenticator", {}, "is no authenticator: it needs the text `challenge`"),
    ],
)
def test_custom_classes_that_cannot_be_used(where: str, kwargs: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(type="custom", **{"class": where}, kwargs=kwargs)
    assert words in str(caught.value)
    assert "sesam" not in str(caught.value)
