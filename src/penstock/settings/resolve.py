"""From a profile and a user's options to everything that a new cluster is made of.

Pure: whether an environment exists is looked up between ``environments_asked`` and ``resolve``, with
the very rights that the jobs will have. All mistakes of a request are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.environment import choice
from penstock.environment.choice import Found, Place
from penstock.model.cluster import Activation, ClusterSpec
from penstock.model.errors import Invalid
from penstock.settings.auth import SingleAuth
from penstock.settings.blueprint import Blueprint
from penstock.settings.catalogue import (
    Person,
    allowed_profiles,
    default_profile,
    form_fields,
    option_specs,
    profile_field,
    profile_fields,
)
from penstock.settings.fields import OptionField
from penstock.settings.problems import shorten, suggest
from penstock.settings.profiles import ProfileSettings
from penstock.settings.root import Settings

__all__ = ["environments_asked", "option_specs", "resolve"]

_MOST_TOLD = 10


class Account(Protocol):
    """As whom the jobs run: a ``penstock.auth.Identity``, which stands in a room above this one."""

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> int: ...
    @property
    def home(self) -> str: ...


def environments_asked(
    settings: Settings,
    listener: int,
    options: Mapping[str, object],
    user: Person,
    account: Account,
) -> tuple[Place, ...]:
    """Where to look, with the user's rights, before ``resolve`` can say all that is wrong.

    Nothing without options that name an environment, or with such that ``resolve`` will refuse.
    """
    if not any(options.get(name) for name in choice.OPTIONS):
        return ()
    try:
        request, shown = _read(settings, listener, options, user, [])
        if not request.profile.environment.check:
            return ()
        return tuple(map(choice.place, _candidates(request.profile, shown, account)))
    except Invalid:
        return ()


def resolve(
    settings: Settings,
    listener: int,
    options: Mapping[str, object],
    user: Person,
    account: Account,
    *,
    seen: Mapping[Place, Found] | None = None,
) -> tuple[ClusterSpec, dict[str, object]]:
    """(spec, options as they are shown) of a new cluster.

    ``listener`` is the position in ``settings.listen`` of the address that the request came to;
    ``seen`` is what a look at ``environments_asked`` found, as far as one was possible.
    The shown options hold ``env_dropped``, a list of names, when the profile's rules dropped any
    of the user's variables. Raises Invalid with every mistake.
    """
    _check_account(settings, account)
    problems: list[str] = []
    request, shown = _read(settings, listener, options, user, problems)
    blueprint = Blueprint(request.profile, settings.backends)
    environment = None
    try:
        candidates = _candidates(request.profile, shown, account)
        if candidates:
            certain = _same_machine(settings, request.profile)
            environment = choice.choose(candidates, seen or {}, certain=certain)
        blueprint.use(environment, shown.get("pixi_env", ""))
    except Invalid as error:
        problems.append(str(error))
    if not problems:
        problems += blueprint.apply(request.fields, shown)
    _refuse(problems)
    spec, dropped = blueprint.build(request.name, account.name, account.home)
    result = {"profile": request.name, **shown}
    if dropped:
        gone = frozenset(dropped)
        result["env"] = {k: v for k, v in shown["env"].items() if k not in gone}
        result["env_dropped"] = list(dropped)
    return spec, result


def _read(
    settings: Settings,
    listener: int,
    options: Mapping[str, object],
    user: Person,
    problems: list[str],
) -> tuple[_Request, dict[str, Any]]:
    """(what is asked for, its options parsed); adds what is wrong to the problems."""
    allowed = allowed_profiles(settings, user)
    name = default = default_profile(settings, listener, allowed)
    try:
        name = profile_field(allowed, default).parse(options.get("profile", default))
    except Invalid as error:
        problems.append(str(error))
    request = _Request(allowed, default, name, allowed[name])
    given = request.select(options, problems)
    return request, _parse(request.fields, given, problems)


def _candidates(
    profile: ProfileSettings, shown: Mapping[str, Any], account: Account
) -> tuple[Activation, ...]:
    directories = profile.environment.conda_dirs
    return choice.asked(shown, [each.replace("{home}", account.home) for each in directories])


def _same_machine(settings: Settings, profile: ProfileSettings) -> bool:
    """Whether all jobs run where the gateway runs, so that both see the same files."""
    names = {group.backend for group in (profile.scheduler, *profile.workers.values())}
    sections = [settings.backends.get(name) for name in names]
    return all(section is not None and section.type == "local" for section in sections)


def _check_account(settings: Settings, account: Account) -> None:
    own = account.uid == os.geteuid() and account.uid != 0
    if own or isinstance(settings.auth, SingleAuth) or account.uid >= settings.users.min_uid:
        return
    raise Invalid(
        f"Jobs may not run as the Unix user {account.name} (uid {account.uid}): this gateway runs "
        f"none below uid {settings.users.min_uid} (users.min_uid)."
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """The profiles of who asks, and the one that is meant."""

    allowed: Mapping[str, ProfileSettings]
    default: str
    name: str
    profile: ProfileSettings

    @property
    def fields(self) -> dict[str, OptionField]:
        return profile_fields(self.profile)

    def select(self, options: Mapping[str, object], problems: list[str]) -> dict[str, object]:
        """The options that the chosen profile has to look at.

        The client's form sends every option, also those that nobody touched, with the default
        profile's defaults. Those must not stand in the way of another profile's own defaults.
        """
        form = form_fields(self.allowed, self.default)
        fields = self.fields
        whole_form = self.name != self.default and options.keys() >= form.keys()
        given: dict[str, object] = {}
        for name, value in options.items():
            if name == "profile":
                continue
            untouched = name in form and value == form[name].default
            if name not in form:
                problems.append(
                    f"{shorten(name)} is no option here{suggest(name, ['profile', *form])}"
                )
            elif untouched and (whole_form or name not in fields):
                continue
            elif name not in fields:
                problems.append(f"{name} is no option of profile {self.name!r}")
            else:
                given[name] = value
        return given


def _parse(
    fields: Mapping[str, OptionField], given: Mapping[str, object], problems: list[str]
) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            shown[name] = field.parse(given[name]) if name in given else field.default
        except Invalid as error:
            problems.append(str(error))
    return shown


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    told = problems[:_MOST_TOLD]
    if len(problems) > len(told):
        told.append(f"and {len(problems) - len(told)} more mistakes")
    raise Invalid("; ".join(told))
