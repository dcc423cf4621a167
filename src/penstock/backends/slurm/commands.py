"""Slurm's commands of one cluster."""

from __future__ import annotations

from pathlib import Path

from penstock.backends.command import Commands


def slurm_commands(directory: Path | None, config: Path | None, timeout: float) -> Commands:
    """``directory``: where they are, None for the PATH. ``config``: the cluster's slurm.conf, None
    for where Slurm looks by itself. ``timeout``: seconds that one may take."""
    environ = {"SLURM_TIME_FORMAT": "%s"}
    if config is not None:
        environ["SLURM_CONF"] = str(config)
    return Commands("Slurm", directory, environ, timeout=timeout)
