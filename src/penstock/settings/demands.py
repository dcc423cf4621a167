"""What the users of each profile may ask a backend for, before anybody does. Pure.

A backend tells from it how long such jobs would wait, and the doctor whether there could ever be
one: an admin hears of a misspelt partition before the first user does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from penstock.model.cluster import AGENT_EXTRAS, ClusterSpec, GroupSpec
from penstock.model.demand import Demand
from penstock.model.job import Resources
from penstock.settings.blueprint import Blueprint
from penstock.settings.catalogue import profile_fields
from penstock.settings.profiles import ProfileSettings
from penstock.settings.root import Settings
from penstock.settings.site_options import SelectOption, parse_target


def demands(
    settings: Settings, backend: str, *, account: str = "user", home: str = "/"
) -> tuple[Demand, ...]:
    """All that profiles send to a backend: with the options' defaults, and with each choice that a
    ``select`` option offers for an extra. Equal ones are told once. ``account``, ``home``: of whom
    the jobs would be."""
    found: list[Demand] = []
    for name, profile in settings.profiles.items():
        for title, choices in _variants(profile):
            blueprint = _blueprint(settings, profile, choices)
            spec = blueprint.build(name, account, home)[0]
            for demand in _of_spec(name, title, profile, spec, backend):
                if not any(replace(demand, name=other.name) == other for other in found):
                    found.append(demand)
    return tuple(found)


def _variants(profile: ProfileSettings) -> Iterator[tuple[str, Mapping[str, str]]]:
    """("", defaults), then each other choice of each option that sets an extra."""
    yield "", {}
    for name, option in profile.options.items():
        if isinstance(option, SelectOption) and _sets_extra(name, option):
            for choice in option.choices:
                if choice != (option.default or next(iter(option.choices))):
                    yield f" with {name}={choice}", {name: choice}


def _sets_extra(name: str, option: SelectOption) -> bool:
    return bool(parse_target(option.target or f"workers.extras.{name}").extra)


def _blueprint(
    settings: Settings, profile: ProfileSettings, choices: Mapping[str, str]
) -> Blueprint:
    fields = profile_fields(profile)
    values = {key: each.default for key, each in fields.items()}
    values.update((key, fields[key].parse(choice)) for key, choice in choices.items())
    blueprint = Blueprint(profile, settings.backends)
    blueprint.apply(fields, values)
    return blueprint


def _of_spec(
    name: str, title: str, profile: ProfileSettings, spec: ClusterSpec, backend: str
) -> Iterator[Demand]:
    groups: list[tuple[str, GroupSpec]] = [("scheduler", spec.scheduler)]
    groups += [(f"workers {group}", each) for group, each in spec.workers.items()]
    for what, group in groups:
        if group.backend == backend:
            extras = {k: v for k, v in group.extras.items() if k not in AGENT_EXTRAS}
            most = _most(profile, what, group.resources)
            label = f"profile {name}, {what}{title}"
            yield Demand(label, group.python, group.resources, most, extras, group.env)


def _most(profile: ProfileSettings, what: str, usual: Resources) -> Resources:
    """Users size the first group of workers, if the profile lets them."""
    first = next(iter(profile.workers), None)
    if first is None or what != f"workers {first}":
        return usual
    workers, allowed = profile.workers[first], profile.built_in_options
    return Resources(
        cores=workers.cores_range[1] if "worker_cores" in allowed else usual.cores,
        memory=workers.memory_range[1] if "worker_memory" in allowed else usual.memory,
        gpus=usual.gpus,
    )
