"""The backend that a notebook submits to, and which *place* it looks at."""

from __future__ import annotations

import getpass
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
        where = settings.schedd or await _schedd_elsewhere(settings)
        if where and settings.spool is None:
            settings = settings.model_copy(update={"spool": True})
        condor = make_htcondor("htcondor", gateway, settings, HOME / "htcondor", files, own=True)
        where = where or platform.node()
        return condor, f"htcondor schedd {where} {settings.pool or ''} as {me}"
    raise Invalid(f"A notebook cannot submit to a backend of type {settings.type}.")


async def _schedd_elsewhere(settings: HTCondorBackendSettings) -> str:
    """The schedd that HTCondor's own configuration names (``setup_condor`` writes SCHEDD_HOST), ""
    for this machine's: what is not here sees no files of ours, they must travel."""
    commands = condor_commands(settings.bin, settings.config, settings.timeout, own=True)
    try:
        done = await commands.run("condor_config_val", "SCHEDD_HOST")
    except Unavailable:  # what is missing is told by the first look
        return ""
    named = done.output.decode(errors="replace").strip() if done.code == 0 else ""
    names = {"localhost", platform.node(), socket.getfqdn(), platform.node().partition(".")[0]}
    return "" if is_here(named, names) else named


def is_here(schedd: str, names: Collection[str]) -> bool:
    """Whether a schedd (``host``, or ``name@host``) is on the machine with these names; "" is."""
    host = schedd.rpartition("@")[2] if "@" in schedd else schedd
    return not schedd or host.lower() in {name.lower() for name in names}
