"""Which profiles and options a user has, and how the client's form shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from penstock.model.errors import Invalid
from penstock.settings.fields import (
    GIB,
    MemoryField,
    NumberField,
    OptionField,
    SelectField,
    StringField,
    site_field,
)
from penstock.settings.job_fields import CondaField, EnvField, PathField
from penstock.settings.profiles import PIXI_ENVIRONMENT, ProfileSettings, WorkerSettings
from penstock.settings.root import Settings


class Person(Protocol):
    """Who asks: a ``penstock.auth.User``, which stands in a room above this one."""

    @property
    def name(self) -> str: ...
    @property
    def groups(self) -> frozenset[str]: ...


def allowed_profiles(settings: Settings, user: Person) -> dict[str, ProfileSettings]:
    """The profiles that a user may use, as ordered in the file. Raises Invalid if there are none."""
    allowed = {
        name: profile
        for name, profile in settings.profiles.items()
        if not (profile.allow.users or profile.allow.groups)
        or user.name in profile.allow.users
        or not user.groups.isdisjoint(profile.allow.groups)
    }
    if not allowed:
        raise Invalid(f"User {user.name} may use none of this gateway's profiles; ask its admins.")
    return allowed


def default_profile(settings: Settings, listener: int, allowed: Mapping[str, object]) -> str:
    """The profile of users who name none at a listening address (position in ``settings.listen``)."""
    wanted = settings.listen[listener].default_profile
    return wanted if wanted is not None and wanted in allowed else next(iter(allowed))


def profile_field(allowed: Mapping[str, ProfileSettings], default: str) -> SelectField:
    """The option ``profile``."""
    return SelectField("profile", "Profile", default, {name: name for name in allowed})


def profile_fields(profile: ProfileSettings) -> dict[str, OptionField]:
    """All other options of a profile, the built-in ones first."""
    fields: dict[str, OptionField] = {}
    group = next(iter(profile.workers.values()), None)
    if group is not None:
        fields["worker_cores"] = _cores(group)
        fields["worker_memory"] = _memory(group)
    fields["env"] = EnvField("env", "Environment variables", {})
    fields["venv"] = PathField("venv", "Path of a virtual environment", "", "virtual environment")
    fields["conda_env"] = CondaField(
        "conda_env", "conda environment", "", "conda environment", profile.environment.conda_dirs
    )
    fields["pixi_project"] = PathField("pixi_project", "pixi project", "", "pixi project")
    fields["pixi_env"] = StringField(
        "pixi_env", "Environment of the pixi project", "", f"({PIXI_ENVIRONMENT})?"
    )
    for name in list(fields):
        if name not in profile.built_in_options:
            del fields[name]
    fields.update((name, site_field(name, option)) for name, option in profile.options.items())
    return fields


def form_fields(allowed: Mapping[str, ProfileSettings], default: str) -> dict[str, OptionField]:
    """The fields of a form for all of a user's profiles at once, with the default one's defaults.

    The client has one form and not one a profile: it takes whatever any profile takes, and the
    server then says what the chosen one does not.
    """
    merged: dict[str, OptionField] = dict(profile_fields(allowed[default]))
    for profile in allowed.values():
        for name, field in profile_fields(profile).items():
            merged[name] = merged[name].merge(field) if name in merged else field
    return merged


def option_specs(settings: Settings, listener: int, user: Person) -> list[dict[str, object]]:
    """The options of a user at a listening address, in the JSON of ``GET /api/v1/options``."""
    allowed = allowed_profiles(settings, user)
    default = default_profile(settings, listener, allowed)
    fields: list[OptionField] = [profile_field(allowed, default)]
    fields += form_fields(allowed, default).values()
    return [
        {"field": field.name, "label": field.label, "default": field.default, "spec": field.spec()}
        for field in fields
    ]


def _cores(group: WorkerSettings) -> NumberField:
    least, most = group.cores_range
    whole = all(float(x).is_integer() for x in (least, most, group.cores))
    default = int(group.cores) if whole else group.cores
    return NumberField("worker_cores", "Worker cores", default, least, most, whole)


def _memory(group: WorkerSettings) -> MemoryField:
    least, most = group.memory_range
    return MemoryField("worker_memory", "Worker memory (GiB)", group.memory / GIB, least, most)
