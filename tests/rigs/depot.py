"""A facility's directory with environments, as conda and pixi make them, which every user can read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rigs.environments import base_python, environment

MANIFEST = """
[workspace]
name = "ana"
channels = ["conda-forge"]
platforms = ["linux-64"]

[activation]
scripts = ["setup.sh"]
env = { ANA_DATA = "$PIXI_PROJECT_ROOT/data" }

[feature.gpu.activation]
env = { ANA_DEVICE = "gpu" }

[environments]
gpu = ["gpu"]
"""

FUNCTION = "() {  eval `/usr/bin/modulecmd bash $*`\n echo '}'\n}"


class Depot:
    """A facility's shared directory with environments, as everybody can read it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conda = self.prefix("cms/kernels/python3")
        self.named = self.prefix("cms/conda/envs/ml")
        self.project = root / "users" / "ana"
        self.prefix("users/ana/.pixi/envs/default")
        self.gpu = self.prefix("users/ana/.pixi/envs/gpu")
        self.write("users/ana/pixi.toml", MANIFEST)
        self.write("users/ana/setup.sh", "export ANA_SETUP=done\nno-such-command\n")
        self.empty = environment("empty").parents[1]
        self.write("notebook/notebook_helper.py", "ANSWER = 42\n")

    def prefix(self, name: str) -> Path:
        """An environment with distributed, looking as conda and pixi make it."""
        place = self.root / name
        command = [str(base_python()), "-m", "venv", "--without-pip", str(place)]
        subprocess.run(command, check=True, umask=0o022)
        [packages] = (environment("new").parents[1] / "lib").glob("python*/site-packages")
        self.write(f"{name}/lib/{packages.parent.name}/site-packages/base.pth", f"{packages}\n")
        self.write(f"{name}/conda-meta/history", "")
        state = {"env_vars": {"OF_STATE": "state's", "NOT_WANTED": "***unset***"}}
        self.write(f"{name}/conda-meta/state", json.dumps(state))
        script = 'export OF_SCRIPT="$CONDA_PREFIX + $OF_STATE"\nunset OLD_ROOT\n'
        self.write(f"{name}/etc/conda/activate.d/activate-root.sh", script)
        return place

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def notebook(self) -> dict[str, str]:
        """All of ``os.environ`` of a notebook in another conda environment."""
        return {
            "PATH": "/opt/notebook/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/home/jovyan",
            "USER": "jovyan",
            "SHELL": "/bin/bash",
            "CONDA_PREFIX": "/opt/notebook",
            "CONDA_DEFAULT_ENV": "notebook",
            "CONDA_SHLVL": "2",
            "VIRTUAL_ENV": "/opt/other",
            "PYTHONHOME": "/opt/notebook",
            "PYTHONPATH": f"{self.root}/notebook",
            "LD_LIBRARY_PATH": f"{self.root}/lib",
            "LD_PRELOAD": "/opt/notebook/lib/libtcmalloc.so",
            "X509_USER_PROXY": "/tmp/x509up_u1000",
            "JUPYTERHUB_API_TOKEN": "secret-of-the-hub",
            "JUPYTERHUB_USER": "jovyan",
            "JPY_PARENT_PID": "7",
            "MY_PASSWORD": "secret-of-mine",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "SLURM_JOB_ID": "1",
            "OLD_ROOT": "/opt/notebook/root",
            "NOT_WANTED": "x",
            "BASH_FUNC_module%%": FUNCTION,
            "PS1": "\\[\\e[0m\\]$(date)\n> ",
            "QUOTED": "'\"\\$HOME`id`\n\tä",
        }


@contextlib.contextmanager
def made() -> Iterator[Depot]:
    """One of its own, which goes in the end."""
    root = Path(tempfile.mkdtemp(prefix="pk-depot-", dir="/tmp"))
    old = os.umask(0o022)
    try:
        root.chmod(0o755)
        yield Depot(root)
    finally:
        os.umask(old)
        shutil.rmtree(root)
