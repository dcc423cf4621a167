"""From the site's and the user's variables to a job's whole environment.

Many users send all of ``os.environ`` of their notebook. Taken as it is, that breaks jobs (a
``PYTHONHOME`` or ``LD_PRELOAD`` of another image, ``SLURM_*`` of the notebook's own job) and carries
the Hub's token to every node. So some names are dropped by rules that a site can change, and what
was dropped is told. What opens the notebook goes; what jobs need to read data as their user stays
(``X509_USER_PROXY``, ``BEARER_TOKEN``, ``AWS_*``), as do ``PYTHONPATH`` and ``LD_LIBRARY_PATH``.
Values are data: no shell ever sees them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

DROP = (
    # The notebook's own server, and what opens it.
    "JUPYTERHUB_*",
    "JUPYTER_*",
    "JPY_*",
    "*_API_TOKEN",
    "CONFIGPROXY_AUTH_TOKEN",
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*CLIENT_SECRET*",
    "*COOKIE_SECRET*",
    "*_REFRESH_TOKEN",
    "DASK_GATEWAY__*",
    # Another Python or loader than the job's.
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",
    "LD_PRELOAD",
    "LD_AUDIT",
    "CONDA_*",
    "_CONDA_*",
    "_CE_*",
    "PIXI_*",
    "MPLBACKEND",
    "DASK_INTERNAL_*",
    # Another job, machine or session than the job's.
    "SLURM_*",
    "SLURMD_*",
    "SBATCH_*",
    "SRUN_*",
    "_CONDOR_*",
    "KUBERNETES_*",
    "PMI_*",
    "PMIX_*",
    "OMPI_*",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
    "SSH_*",
    "DBUS_*",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_*",
    "DISPLAY",
    "HOSTNAME",
    "TMPDIR",
    "TMP",
    "TEMP",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "SHELL",
    "BASH_*",
    "_",
)
"""Patterns of names that a user's variables lose unless the site says otherwise."""

_NEVER = ("PENSTOCK_*", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV")
"""Set by us or by the backend; no rule lets a user's value pass."""

_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class EnvironmentRules:
    """Which of a user's variables reach the job: none that match ``drop`` (shell patterns, case
    matters), except those that match ``keep``."""

    drop: tuple[str, ...] = DROP
    keep: tuple[str, ...] = ()

    def passes(self, name: str) -> bool:
        """True when a user's variable of this name reaches the job."""
        if _matches(name, _NEVER):
            return False
        return _matches(name, self.keep) or not _matches(name, self.drop)


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """A job's variables, and the names of the user's that were dropped on the way, sorted."""

    env: Mapping[str, str]
    dropped: tuple[str, ...]


def job_environment(
    rules: EnvironmentRules,
    site: Mapping[str, str],
    user: Mapping[str, str],
    *,
    name: str,
    home: str,
    python: str,
    venv: str = "",
) -> JobEnvironment:
    """The whole environment of a job of the Unix user ``name`` with the directory ``home``.

    ``site`` is the profile's, where the user's wins over it. The directory of ``python`` comes first
    in ``PATH`` when it is an absolute path; ``venv`` is told as ``VIRTUAL_ENV``.
    """
    passed = {key: value for key, value in user.items() if rules.passes(key)}
    env = {"LANG": "C.UTF-8", **site, **passed}
    env.update(HOME=home, USER=name, LOGNAME=name)
    path = env.get("PATH") or _PATH
    if posixpath.isabs(python):
        path = f"{posixpath.dirname(python)}:{path}"
    env["PATH"] = path
    if venv:
        env["VIRTUAL_ENV"] = venv
    return JobEnvironment(env, tuple(sorted(user.keys() - passed.keys())))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return _compiled(patterns).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all: thousands of variables meet dozens of patterns."""
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")
