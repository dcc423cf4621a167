"""Mistakes that show only when sections are looked at together, or at the files they name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from penstock.model.errors import Invalid, SettingsError
from penstock.settings.auth import BasicAuth, read_secret
from penstock.settings.blueprint import Blueprint
from penstock.settings.catalogue import profile_fields
from penstock.settings.extras import mistakes
from penstock.settings.fields import BUILT_IN_NAMES, OF_WORKERS, OptionField, site_field
from penstock.settings.job_files import files_of_users
from penstock.settings.notebook import NotebookBackendSettings
from penstock.settings.problems import KeyPath, Problem, suggest
from penstock.settings.profiles import ProfileSettings
from penstock.settings.root import Settings
from penstock.settings.site_options import parse_target


def check(
    settings: Settings, raw: Mapping[str, Any], broken: Collection[KeyPath] = ()
) -> list[Problem]:
    """Every mistake between sections.

    ``raw`` is what was written, ``broken`` where something was rejected already: names that stand
    there are not reported as unknown, nor defaults in place of something rejected.
    """
    problems = [*_listeners(settings, raw, broken), *_files(settings)]
    known = _names(raw, "backends") | settings.backends.keys()
    for name, profile in settings.profiles.items():
        path = ("profiles", name)
        for place, group in _groups(profile):
            if group not in known:
                text = f"there is no backend {group!r}{suggest(group, sorted(known))}"
                problems.append(_problem((*path, *place, "backend"), text))
        if isinstance(settings.backends.get(profile.scheduler.backend), NotebookBackendSettings):
            text = "a scheduler cannot be a notebook's job: it runs before and after notebooks do"
            problems.append(_problem((*path, "scheduler", "backend"), text))
        problems += _extras(settings, path, profile)
        problems += files_of_users(settings, path, profile)
        groups = _names(raw, "profiles", name, "workers") | profile.workers.keys()
        wrong = list(_options(path, profile, groups))
        problems += wrong or _trial(settings, path, profile)
    return problems


def _listeners(
    settings: Settings, raw: Mapping[str, Any], broken: Collection[KeyPath]
) -> Iterator[Problem]:
    known = _names(raw, "profiles") | settings.profiles.keys()
    seen: set[tuple[str, int]] = set()
    for index, listener in enumerate(settings.listen):
        profile = listener.default_profile
        if profile is not None and profile not in known:
            text = f"there is no profile {profile!r}{suggest(profile, sorted(known))}"
            yield _problem(("listen", index, "default_profile"), text)
        for key, endpoint in (
            ("address", listener.endpoint),
            ("scheduler_address", listener.scheduler_endpoint),
        ):
            path = ("listen", index, key)
            if endpoint is None or endpoint[1] == 0 or {path, path[:2], path[:1]} & set(broken):
                continue
            if endpoint in seen:
                yield _problem(path, "the same address stands there twice")
            seen.add(endpoint)


def _files(settings: Settings) -> Iterator[Problem]:
    for index, listener in enumerate(settings.listen):
        yield from _readable(("listen", index, "tls_cert"), listener.tls_cert)
        yield from _readable(("listen", index, "tls_key"), listener.tls_key)
    yield from _readable(("server", "ca_file"), settings.server.ca_file)
    if isinstance(settings.auth, BasicAuth):
        yield from _readable(("auth", "users_file"), settings.auth.users_file)
        if settings.auth.password_file is not None:
            try:
                read_secret(settings.auth.password_file)
            except SettingsError as error:
                yield _problem(("auth", "password_file"), str(error))


def _readable(path: KeyPath, file: Path | None) -> Iterator[Problem]:
    if file is None:
        return
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        yield _problem(path, f"{file} cannot be read: {error.strerror}")


def _extras(settings: Settings, path: KeyPath, profile: ProfileSettings) -> Iterator[Problem]:
    """Settings of jobs that the backend of their group would refuse."""
    for place, group in (
        (("scheduler",), profile.scheduler),
        *((("workers", name), group) for name, group in profile.workers.items()),
    ):
        for steps, text in mistakes(settings.backends.get(group.backend), group.extras):
            yield _problem((*path, *place, "extras", *steps), text)


def _groups(profile: ProfileSettings) -> Iterator[tuple[KeyPath, str]]:
    yield ("scheduler",), profile.scheduler.backend
    for name, group in profile.workers.items():
        yield ("workers", name), group.backend


def _options(path: KeyPath, profile: ProfileSettings, groups: Collection[str]) -> Iterator[Problem]:
    for name, option in profile.options.items():
        place = (*path, "options", name)
        if not name.isidentifier():
            yield _problem(place, "an option's name must be a Python identifier")
            continue
        if name in (BUILT_IN_NAMES if profile.workers else BUILT_IN_NAMES - OF_WORKERS):
            yield _problem(place, "is a built-in option; choose another name")
            continue
        target = parse_target(option.target) if option.target else None
        if target is not None and target.group and target.group not in groups:
            text = f"there is no worker group {target.group!r}"
            yield _problem((*place, "target"), text + suggest(target.group, sorted(groups)))
        if (target.extra if target else name) == "prolog":
            text = "a shell runs prolog lines, so they are the site's alone: no option may set them"
            yield _problem((*place, "target"), text)
        try:
            site_field(name, option).parse(site_field(name, option).default)
        except Invalid as error:
            yield _problem((*place, "default"), str(error))


def _trial(settings: Settings, path: KeyPath, profile: ProfileSettings) -> list[Problem]:
    """What would be wrong with the cluster of a user who chose nothing; and if there is nothing,
    with what options offer besides."""
    fields = profile_fields(profile)
    defaults = {name: field.default for name, field in fields.items()}
    wrong = Blueprint(profile, settings.backends).apply(fields, defaults)
    if wrong:
        return [_problem((*path, "options"), text) for text in wrong]
    return [
        _problem((*path, "options", name), text)
        for name in profile.options
        for text in _offers(settings, profile, name, fields[name])
    ]


def _offers(
    settings: Settings, profile: ProfileSettings, name: str, field: OptionField
) -> Iterable[str]:
    """What is wrong with the choices of an option, or with its bounds; each said once."""
    wrong: dict[str, None] = {}
    for value in field.offers():
        blueprint = Blueprint(profile, settings.backends)
        wrong.update(dict.fromkeys(blueprint.apply({name: field}, {name: value})))
    return wrong


def _names(raw: Mapping[str, Any], *keys: str) -> set[str]:
    """The keys of a table as it was written."""
    found: Any = raw
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return set(found) if isinstance(found, dict) else set()


def _problem(path: KeyPath, text: str) -> Problem:
    return Problem(path, text, path)
