"""Activation against real prefixes and a real shell; what conda and rattler do is the yardstick."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from penstock.agent import sourcing
from penstock.agent.activation import Plan, Step, plan_activation
from penstock.agent.endings import Ring
from penstock.agent.sourcing import settled, source_all

BASE = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "KEPT": "kept"}


@pytest.fixture(autouse=True)
def job_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sourcing, "here", lambda: str(tmp_path))


class Prefix:
    """A directory that looks as a conda environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("bin", "conda-meta", "etc/conda/activate.d", "etc/conda/env_vars.d"):
            (path / name).mkdir(parents=True)

    def script(self, name: str, text: str) -> None:
        (self.path / "etc/conda/activate.d" / name).write_text(text)

    def state(self, **variables: object) -> None:
        text = json.dumps({"env_vars": variables})
        (self.path / "conda-meta" / "state").write_text(text)

    def package(self, name: str, **variables: object) -> None:
        (self.path / "etc/conda/env_vars.d" / name).write_text(json.dumps(variables))


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    return Prefix(tmp_path / "my envs" / "it's $(me)")


class Activated:
    """What became of an activation, as the supervisor does it."""

    def __init__(self, activate: dict[str, str], env: dict[str, str] | None = None) -> None:
        self.said: list[str] = []
        self.ring = Ring()
        self.shells: list[subprocess.Popen[bytes]] = []
        self.plan = plan_activation(activate, dict(env or BASE), self.said.append)
        self.env = self.plan.env
        if self.plan.steps:
            self.env = source_all(self.plan, self.ring, self.shells.append)

    @property
    def output(self) -> str:
        return self.ring.text()


def conda(prefix: Prefix, env: dict[str, str] | None = None) -> Activated:
    where = str(prefix.path)
    return Activated({"kind": "conda", "prefix": where, "project": "", "environment": ""}, env)


def pixi(project: Path, environment: str = "default", named: str = "") -> Activated:
    prefix = str(project / ".pixi" / "envs" / environment)
    where = str(project / named) if named else str(project)
    return Activated(
        {"kind": "pixi", "prefix": prefix, "project": where, "environment": environment}
    )


def test_a_prefix_without_scripts_needs_no_shell(prefix: Prefix) -> None:
    prefix.package("b.json", ROOTSYS="/x", DATA="package", OFF="***unset***", COUNT=3)
    prefix.package("a.json", ROOTSYS="overridden by b")
    prefix.state(DATA="environment's $HOME", KEPT="***unset***")
    done = conda(prefix, {**BASE, "VIRTUAL_ENV": "/other", "OFF": "x"})
    where = str(prefix.path)
    assert not done.shells
    assert not done.said
    assert done.env == {
        "PATH": f"{where}/bin:/usr/bin:/bin",
        "HOME": "/nowhere",
        "CONDA_PREFIX": where,
        "CONDA_DEFAULT_ENV": where,
        "CONDA_SHLVL": "1",
        "ROOTSYS": "/x",
        "DATA": "environment's $HOME",
        "COUNT": "3",
    }


def test_names_of_environments(tmp_path: Path) -> None:
    base, named = Prefix(tmp_path / "conda"), Prefix(tmp_path / "conda" / "envs" / "cms")
    (base.path / "condabin").mkdir()
    assert conda(base).env["CONDA_DEFAULT_ENV"] == "base"
    assert conda(named).env["CONDA_DEFAULT_ENV"] == "cms"


def test_the_prefix_comes_first_and_once(prefix: Prefix) -> None:
    env = {**BASE, "PATH": f"/notebook/bin:{prefix.path}/bin:/bin"}
    assert conda(prefix, env).env["PATH"] == f"{prefix.path}/bin:/notebook/bin:/bin"


def test_scripts_run_in_order_and_their_variables_arrive(prefix: Prefix) -> None:
    prefix.script("b.sh", 'export ORDER="${ORDER}b"; unset KEPT; LOCAL=x; printf "%s" "[$#]"')
    prefix.script("a.sh", 'export ORDER=a; declare -x DECLARED=1; export "LINES2=x\ny"; cd /')
    prefix.script("c.csh", "setenv ORDER csh")
    prefix.script("d.sh", 'export SEES="$CONDA_PREFIX|$STATE"; echo to stderr >&2')
    prefix.state(STATE="s")
    shells = {"PS1": "$ ", "OPTIND": "3", "SECONDS": "9", "IFS": ":", "COLUMNS": "7"}
    odd = {**shells, "BASH_FUNC_f%%": "() {\n  echo 'x'\n}", "with-dash": "1", "BASH_ENV": "/nope"}
    done = conda(prefix, {**BASE, **odd, "PWD": "/was", "BYTES": os.fsdecode(b"\xff\n")})
    assert len(done.shells) == 1
    assert done.env["ORDER"] == "ab"
    assert done.env["DECLARED"] == "1"
    assert done.env["LINES2"] == "x\ny"
    assert done.env["SEES"] == f"{prefix.path}|s"
    assert done.env["BYTES"] == os.fsdecode(b"\xff\n")
    assert (done.env["PWD"], done.env["with-dash"], done.env["BASH_ENV"]) == ("/was", "1", "/nope")
    assert {name: done.env[name] for name in shells} == shells
    assert "echo 'x'" in done.env["BASH_FUNC_f%%"]
    assert not {"KEPT", "LOCAL", "SHLVL", "_", "OLDPWD"} & done.env.keys()
    assert not [name for name in done.env if name.startswith("penstock")]
    assert done.output == "[0]to stderr\n"


def test_a_script_that_fails_is_told_and_the_rest_goes_on(prefix: Prefix) -> None:
    prefix.script("a.sh", "set -e\nset -u\nexport A=1\ncat /no/such/file\nexport B=2\nfalse\n")
    prefix.script("b.sh", "export C=3\nreturn 4\n")
    prefix.script("c.sh", "if then\n")
    prefix.script("d.sh", "export D=4\n")
    done = conda(prefix)
    assert {name: done.env.get(name) for name in "ABCD"} == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert "/no/such/file" in done.output
    assert f"penstock: {prefix.path}/etc/conda/activate.d/a.sh ended with code 1" in done.output
    assert "activate.d/b.sh ended with code 4" in done.output
    assert "syntax error" in done.output


def test_a_script_that_exits_keeps_what_it_set(prefix: Prefix) -> None:
    prefix.script("a.sh", "export A=1\nexit 3\n")
    prefix.script("b.sh", "export B=2\n")
    done = conda(prefix)
    assert done.env["A"] == "1"
    assert "B" not in done.env


def test_a_script_that_hangs_does_not_hold_the_job(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sourcing, "ACTIVATION_TIME", 0.5)
    prefix.script("a.sh", "export A=1\nsleep 1000 & sleep 1000\n")
    done = conda(prefix)
    assert "A" not in done.env
    assert done.env["CONDA_PREFIX"] == str(prefix.path)
    assert "its scripts took more than 0 seconds" in done.output
    [shell] = done.shells
    assert shell.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while left := [p for p in psutil.process_iter() if _in_group(p, shell.pid)]:
        assert time.monotonic() < deadline, left  # killed they are, dying takes a moment
        time.sleep(0.01)


def _in_group(process: psutil.Process, group: int) -> bool:
    """Alive, and of the group; where nobody reaps orphans they stay as zombies."""
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and os.getpgid(process.pid) == group
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def test_scripts_that_break_python_are_left_out(prefix: Prefix) -> None:
    prefix.script("a.sh", "export A=1\npenstock_python=/no/such/python\n")
    done = conda(prefix)
    assert "A" not in done.env
    assert "in an environment in which" in done.output


def test_unreadable_things_are_told(prefix: Prefix) -> None:
    (prefix.path / "etc/conda/env_vars.d/x.json").write_text("{")
    (prefix.path / "conda-meta/state").write_text("[]")
    done = conda(prefix)
    assert len(done.said) == 1
    assert f"cannot read {prefix.path}/etc/conda/env_vars.d/x.json" in done.said[0]


def test_a_virtual_environment(tmp_path: Path) -> None:
    for kind in ("venv", "conda"):
        done = Activated({"kind": kind, "prefix": str(tmp_path), "project": "", "environment": ""})
        assert done.env == {
            **BASE,
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "VIRTUAL_ENV": str(tmp_path),
        }


MANIFEST = """
[workspace]
name = "ana"
[activation]
scripts = ["scripts/setup.sh", "missing.sh"]
[activation.env]
LAST = '$FROM_SCRIPT "quoted" \\$5'
FROM_SCRIPT = "manifest's"
THEN = "${FROM_SCRIPT}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "a project"
    Prefix(made / ".pixi" / "envs" / "default")
    Prefix(made / ".pixi" / "envs" / "gpu")
    (made / "scripts").mkdir()
    (made / "scripts" / "setup.sh").write_text('export FROM_SCRIPT="$PIXI_PROJECT_ROOT"\n')
    return made


def test_pixi(project: Path) -> None:
    (project / "pixi.toml").write_text(MANIFEST)
    prefix = Prefix.__new__(Prefix)
    prefix.path = project / ".pixi" / "envs" / "default"
    prefix.state(STATE="$HOME")
    prefix.script("a.sh", 'export CONDAS="$PIXI_ENVIRONMENT_NAME $STATE"')
    done = pixi(project)
    assert done.env == {
        **BASE,
        "PATH": f"{prefix.path}/bin:/usr/bin:/bin",
        "CONDA_PREFIX": str(prefix.path),
        "CONDA_DEFAULT_ENV": "ana",
        "CONDA_SHLVL": "1",
        "PIXI_PROJECT_ROOT": str(project),
        "PIXI_PROJECT_NAME": "ana",
        "PIXI_PROJECT_MANIFEST": f"{project}/pixi.toml",
        "PIXI_PROJECT_VERSION": "NO_VERSION_SPECIFIED",
        "PIXI_ENVIRONMENT_NAME": "default",
        "PIXI_ENVIRONMENT_PLATFORMS": "",
        "PIXI_IN_SHELL": "1",
        "STATE": "/nowhere",
        "CONDAS": "default /nowhere",
        "LAST": f'{project} "quoted" $5',
        "FROM_SCRIPT": "manifest's",
        "THEN": "manifest's",
    }
    assert done.said == [f"not activated: there is no activation script {project}/missing.sh"]


def test_pixi_without_scripts_needs_no_shell(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        '[project]\nname = "ana"\n[tool.pixi.activation]\nenv = { A = "1", "B C" = "no" }\n'
    )
    for named in ("", "pyproject.toml"):
        done = pixi(project, "gpu", named)
        assert not done.shells
        assert not done.said
        assert done.env["CONDA_DEFAULT_ENV"] == "ana:gpu"
        assert done.env["PIXI_PROJECT_MANIFEST"] == f"{project}/pyproject.toml"
        assert (done.env["A"], done.env.get("B C")) == ("1", None)


def test_pixi_without_a_manifest(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "of something else"\n')
    done = pixi(project)
    assert "cannot read" in done.said[0]
    assert done.env["PIXI_PROJECT_NAME"] == "a project"


def test_without_any_reader_of_toml(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pixi.toml").write_text(MANIFEST)
    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    done = pixi(project)
    assert "its scripts and variables are left out" in done.said[0]
    assert done.env["CONDA_PREFIX"].endswith("/default")


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_both_shells(shell: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sourcing, "SHELLS", (shell,))
    script = tmp_path / "a b.sh"
    script.write_text('export A="$((1 + 1))"')
    odd = {"f%%": "() { :; }", "A": "1"}
    steps = [Step(True, str(script))] * 12 + [Step(False, 'export B="$A x"')]
    env = source_all(Plan({**BASE, **odd}, steps), Ring(), lambda _: None)
    assert env == {**BASE, "f%%": "() { :; }", "A": "2", "B": "2 x"}


def test_settled() -> None:
    before = {"SHLVL": "3", "A": "1", "x-y": "2", "ENV": "/e"}
    assert settled(before, {"SHLVL": "4", "_": "x", "penstock_0": "p", "A": "2"}) == {
        "SHLVL": "3",
        "A": "2",
        "x-y": "2",
        "ENV": "/e",
    }


def test_rattler_does_the_same(tmp_path: Path) -> None:
    """What pixi is made of, asked for the very same prefix."""
    from rattler.shell import ActivationVariables, Shell, activate

    prefix = Prefix(tmp_path / "env")  # it has no answer to odd paths
    prefix.package("p.json", PACKAGE="p", BOTH="package")
    prefix.state(STATE="s", BOTH="state")
    prefix.script("b.sh", 'export ORDER="${ORDER}b"; unset KEPT')
    prefix.script("a.sh", 'export ORDER=a SEES="$CONDA_PREFIX $BOTH"')
    prefix.script("c.bash", "export BASH_ONLY=1")
    script = activate(
        prefix.path, ActivationVariables(None, ["/usr/bin", "/bin"]), Shell.bash
    ).script
    done = subprocess.run(
        ["/bin/bash", "-c", f"{script}\nexec env -0"], env=BASE, capture_output=True, check=True
    )
    theirs = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    ours = conda(prefix).env
    for name in ("_", "PWD", "SHLVL", "OLDPWD"):
        theirs.pop(name, None)
    assert ours.pop("CONDA_DEFAULT_ENV") == str(prefix.path)  # rattler leaves it to its callers
    assert theirs.pop("PATH").startswith(f"{prefix.path}/bin:/usr/bin:/bin:")
    assert ours.pop("PATH") == f"{prefix.path}/bin:/usr/bin:/bin"
    assert ours == theirs
