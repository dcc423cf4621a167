"""The backend that a notebook submits to, and which *place* it looks at."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from penstock.backends.base import Backend
from penstock.backends.htcondor import condor_commands, make_htcondor
from penstock.backends.local import LocalBackend
from penstock.backends.local.proc import boot_id
from penstock.backends.slurm import SlurmBackend, slurm_commands
from penstock.model.errors import Invalid, Unavailable
from penstock.settings.backends import (
    BackendSettings,
    LocalBackendSettings,
    SlurmBackendSettings,
)
from penstock.settings.htcondor import HTCondorBackendSettings

HOME = Path("~/.local/share/penstock").expanduser()
"""Where a notebook's backends keep what they must."""


async def make_backend(section: Mapping[str, object], gateway: str) -> tuple[Backend, str]:
    """(backend, place) of a section as in the server's ``[backends]``. Raises Invalid."""
    try:
        settings: BackendSettings = TypeAdapter(BackendSettings).validate_python(dict(section))
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()
        )
        raise Invalid(f"The notebook's backend cannot be: {said}") from None
    me = getpass.getuser()
    if isinstance(settings, LocalBackendSettings):
        directory = settings.directory or HOME / "jobs"
        local = LocalBackend("local", gateway, directory, allow_root=True, period=settings.period)
        return local, f"local {directory} on {platform.node()} ({boot_id()}) as {me}"
    if isinstance(settings, SlurmBackendSettings):
        slurm = SlurmBackend(
            "slurm",
            gateway,
            HOME / "slurm",
            slurm_commands(settings.bin, settings.config, settings.timeout),
            jobs=settings.jobs,
            scratch=settings.scratch,
            allow_root=True,
            visibility=settings.visibility,
            period=settings.period,
        )
        return slurm, f"slurm {settings.config or ''} as {me}"
    if isinstance(settings, HTCondorBackendSettings):
        files = HOME / "htcondor-files"
        settings, where = await _located(settings)
        condor = make_htcondor("htcondor", gateway, settings, HOME / "htcondor", files, own=True)
        where = where or platform.node()
        return condor, f"htcondor schedd {where} {settings.pool or ''} as {me}"
    raise Invalid(f"A notebook cannot submit to a backend of type {settings.type}.")


async def _located(settings: HTCondorBackendSettings) -> tuple[HTCondorBackendSettings, str]:
    """(as it is here, the schedd when that is elsewhere, else "").

    HTCondor's own configuration may name the schedd, as ``setup_condor`` writes it; what is elsewhere
    sees no files of ours, they must travel. Where the machine has no configuration, the tools read
    the user's only when they are told of another, empty one.
    """
    named = await _setting(settings, "SCHEDD_HOST")
    if named is None and settings.config is None and "CONDOR_CONFIG" not in os.environ:
        alone = settings.model_copy(update={"config": Path(os.devnull)})
        named = await _setting(alone, "SCHEDD_HOST")
        settings = alone if named else settings
    where = settings.schedd or named or ""
    names = {"localhost", platform.node(), socket.getfqdn(), platform.node().partition(".")[0]}
    if not settings.schedd and is_here(where, names):
        return settings, ""
    spool = True if settings.spool is None else settings.spool
    return settings.model_copy(update={"spool": spool}), where


async def _setting(settings: HTCondorBackendSettings, name: str) -> str | None:
    """What HTCondor's configuration says, "" for nothing, None when there is no configuration."""
    commands = condor_commands(settings.bin, settings.config, settings.timeout, own=True)
    try:
        done = await commands.run("condor_config_val", name)
    except Unavailable:  # what is missing is told by the first look
        return ""
    if done.code != 0:
        return None if "CONDOR_CONFIG" in done.errors else ""
    return done.output.decode(errors="replace").strip()


def is_here(schedd: str, names: Collection[str]) -> bool:
    """Whether a schedd (``host``, or ``name@host``) is on the machine with these names; "" is."""
    host = schedd.rpartition("@")[2] if "@" in schedd else schedd
    return not schedd or host.lower() in {name.lower() for name in names}
