"""An HTCondor backend from its section of the configuration, on the server and in a notebook."""

from __future__ import annotations

from pathlib import Path

from penstock.backends.htcondor.acting import Acting
from penstock.backends.htcondor.backend import HTCondorBackend
from penstock.backends.htcondor.commands import condor_commands
from penstock.settings.htcondor import HTCondorBackendSettings


def make_htcondor(
    name: str,
    gateway: str,
    section: HTCondorBackendSettings,
    directory: Path,
    files: Path,
    *,
    own: bool,
) -> HTCondorBackend:
    """``directory``: for notes. ``files``: for scripts and output where they are not spooled, unless
    the section names another. ``own``: all jobs are those of this process's user, whose own
    credentials and configuration of HTCondor are taken from the environment."""
    way = "own" if own else section.act_by
    return HTCondorBackend(
        name,
        gateway,
        directory,
        directory / "files" if section.reads_for_users else section.directory or files,
        condor_commands(section.bin, section.config, section.timeout, own=own),
        jobs=section.jobs,
        acting=Acting(way, section.domain or "", section.key, section.token_lifetime),
        schedd=section.schedd,
        pool=section.pool,
        spool=section.spools,
        visibility=section.visibility,
        period=section.period,
        remember=section.remember,
        grace=section.grace,
        lease=section.lease,
        max_queued=section.max_queued_jobs,
    )
