"""HTCondor's commands of one pool."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.backends.command import Commands

_OWN = ("CONDOR_CONFIG", "HOME", "USER", "LOGNAME", "X509_USER_PROXY", "X509_CERT_DIR")
_OWN_PREFIXES = ("_CONDOR_", "BEARER_TOKEN", "XDG_RUNTIME_DIR", "KRB5", "SCITOKEN")


def condor_commands(
    directory: Path | None, config: Path | None, timeout: float, *, own: bool = False
) -> Commands:
    """``directory``: where they are, None for the PATH. ``config``: CONDOR_CONFIG, None for where
    HTCondor looks by itself. ``timeout``: seconds that one may take. ``own``: they act for the user
    whose process this is, with the configuration and credentials of that user's environment."""
    environ = {}
    if own:
        environ = {
            name: value
            for name, value in os.environ.items()
            if name in _OWN or name.startswith(_OWN_PREFIXES)
        }
    if config is not None:
        environ["CONDOR_CONFIG"] = str(config)
    return Commands("HTCondor", directory, environ, timeout=timeout)
