"""Files of the submit side that jobs take along, and whether users may name them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.settings.htcondor import FILES_OF_JOBS, HTCondorBackendSettings
from penstock.settings.problems import KeyPath, Problem
from penstock.settings.profiles import GroupSettings, ProfileSettings
from penstock.settings.root import Settings
from penstock.settings.site_options import SelectOption, Target, parse_target


def files_of_users(
    settings: Settings, path: KeyPath, profile: ProfileSettings
) -> Iterator[Problem]:
    """Options by which users could have files read with the gateway's rights, and sent to them."""
    for name, option in profile.options.items():
        if isinstance(option, SelectOption) or getattr(option, "pattern", None):
            continue  # the site has said what may be read
        target = parse_target(option.target or f"workers.extras.{name}")
        if target.extra not in FILES_OF_JOBS:
            continue
        for group in _aimed_at(target, profile):
            section = settings.backends.get(group.backend)
            if not isinstance(section, HTCondorBackendSettings) or not section.reads_for_users:
                continue
            told = {**section.jobs.model_dump(), **group.extras}.get("submit") or {}
            if (
                target.extra == "container_image"
                and told.get("transfer_container", "").lower() == "false"
            ):
                continue
            text = (
                f"whatever file users named as {target.extra} would be read with the gateway's rights "
                "(act_by, spool) and sent to their jobs: make it a select, or give it a pattern"
            )
            place = (*path, "options", name)
            yield Problem(place, text, place)
            break


def _aimed_at(target: Target, profile: ProfileSettings) -> Iterator[GroupSettings]:
    if target.place in ("scheduler", "jobs"):
        yield profile.scheduler
    for name, group in profile.workers.items():
        if target.place in ("workers", "jobs") or target.group == name:
            yield group
