"""Activating an environment: what conda, pixi and venv would set, and which scripts they would run.

A prefix that is only put on PATH lacks what its packages and its author set at activation (data
directories of ROOT or GDAL, compilers, variables of the project), and fails later, in a task. It
is done here, in the job, because only the job surely sees the user's files, with the user's rights;
and without conda or pixi, which the node need not have. The rules are conda's (conda/activate.py:
variables of packages, then of the environment, then scripts by name) and pixi's (its metadata and
the same, then the manifest's scripts, then the manifest's variables).
"""

import json
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple

from penstock.agent.base import Message
from penstock.agent.manifest import MANIFESTS, Manifest, pixi_table, read_manifest

Env = Dict[str, str]
Say = Callable[[str], None]

UNSET = "***unset***"  # CONDA_ENV_VARS_UNSET_VAR of conda/base/constants.py

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

FOR_SHELL = re.compile(r"[$`\\]")


class Step(NamedTuple):
    """One thing for the shell: to source the file ``text``, or to evaluate ``text`` itself."""

    script: bool
    text: str


class Plan(NamedTuple):
    """An activation: the environment so far, and what only a shell can do to it."""

    env: Env
    steps: List[Step]


def plan_activation(activate: Message, env: Env, say: Say) -> Plan:
    """How to activate what the job's configuration names. What cannot be read is said, and left."""
    kind, prefix = activate["kind"], activate["prefix"]
    env = with_bin(env, prefix)
    if kind == "pixi":
        return plan_pixi(activate, env, say)
    if not os.path.isdir(os.path.join(prefix, "conda-meta")):
        env["VIRTUAL_ENV"] = prefix  # and a virtual environment needs no more
        return Plan(env, [])
    set_conda(env, prefix, conda_name(prefix))
    for name, value in conda_variables(prefix, say).items():
        if value == UNSET:
            env.pop(name, None)
        else:
            env[name] = value
    return Plan(env, scripts_of(prefix))


def with_bin(env: Env, prefix: str) -> Env:
    """A copy of the environment in which the prefix's programs are found first."""
    first, paths = os.path.join(prefix, "bin"), env.get("PATH", os.defpath).split(os.pathsep)
    rest = [path for path in paths if path != first]
    return dict(env, PATH=os.pathsep.join([first, *rest]))


def set_conda(env: Env, prefix: str, name: str) -> None:
    """The variables by which programs know the active conda environment."""
    env.pop("VIRTUAL_ENV", None)
    env.update(CONDA_PREFIX=prefix, CONDA_DEFAULT_ENV=name, CONDA_SHLVL="1")


def conda_name(prefix: str) -> str:
    """An environment's name as conda tells it: its own, its path, or "base"."""
    if os.path.isdir(os.path.join(prefix, "condabin")):
        return "base"
    parent, name = os.path.split(prefix)
    return name if os.path.basename(parent) == "envs" else prefix


def conda_variables(prefix: str, say: Say) -> Env:
    """Variables that packages set (etc/conda/env_vars.d) and the environment (conda-meta/state)."""
    found: Env = {}
    for path in listing(os.path.join(prefix, "etc", "conda", "env_vars.d"), ".json"):
        found.update(strings(read_json(path, say)))
    path = os.path.join(prefix, "conda-meta", "state")
    if os.path.exists(path):
        found.update(strings(read_json(path, say).get("env_vars")))
    return found


def scripts_of(prefix: str) -> List[Step]:
    """The scripts of an environment's packages, in the order in which they are run."""
    return [
        Step(True, path) for path in listing(os.path.join(prefix, "etc/conda/activate.d"), ".sh")
    ]


def listing(directory: str, suffix: str) -> List[str]:
    """Paths of a directory's files that end so, by name; none when it cannot be read."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names]


def read_json(path: str, say: Say) -> Message:
    """A table from a file; empty, and said, when there is none to be had."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        say("not activated: cannot read %s: %s" % (path, error))
        return {}
    return value if isinstance(value, dict) else {}


def strings(value: object) -> Env:
    """Variables of a table; what can be no variable is left out."""
    items = value.items() if isinstance(value, dict) else ()
    pairs = ((str(name), str(text)) for name, text in items)
    return {n: t for n, t in pairs if n and "=" not in n and "\0" not in n + t}


def plan_pixi(activate: Message, env: Env, say: Say) -> Plan:
    """The activation of a pixi environment."""
    prefix, environment = activate["prefix"], activate["environment"] or "default"
    file = manifest_file(activate["project"], say)
    root = os.path.dirname(file)
    manifest = load_manifest(file, environment, say)
    name = manifest.name or os.path.basename(root)
    set_conda(env, prefix, name if environment == "default" else "%s:%s" % (name, environment))
    env.update(
        PIXI_PROJECT_ROOT=root,
        PIXI_PROJECT_NAME=name,
        PIXI_PROJECT_MANIFEST=file,
        PIXI_PROJECT_VERSION=manifest.version,
        PIXI_ENVIRONMENT_NAME=environment,
        PIXI_ENVIRONMENT_PLATFORMS=manifest.platforms,
        PIXI_IN_SHELL="1",
    )
    steps: List[Step] = []
    assign(conda_variables(prefix, say), env, steps)
    steps += scripts_of(prefix)
    for script in manifest.scripts:
        path = os.path.join(root, script)
        if os.path.isfile(path):
            steps.append(Step(True, path))
        else:
            say("not activated: there is no activation script %s" % path)
    assign(manifest.env, env, steps)
    return Plan(env, steps)


def assign(variables: Env, env: Env, steps: List[Step]) -> None:
    """Set variables whose values may refer to others, as pixi lets a shell do it; without a shell
    as long as none is needed."""
    for name, value in variables.items():
        if not IDENTIFIER.fullmatch(name):
            continue
        if steps or FOR_SHELL.search(value):
            steps.append(Step(False, 'export %s="%s"' % (name, value.replace('"', '\\"'))))
        else:
            env[name] = value


def manifest_file(project: str, say: Say) -> str:
    """The path of a project's manifest, which may be named itself."""
    if os.path.basename(project) in MANIFESTS:
        return project
    for name in MANIFESTS:
        path = os.path.join(project, name)
        if os.path.isfile(path) and (name != "pyproject.toml" or has_pixi(path, say)):
            return path
    return os.path.join(project, MANIFESTS[0])


def has_pixi(path: str, say: Say) -> bool:
    """Whether a pyproject.toml is a pixi project's."""
    return bool(pixi_table(read_toml(path, say), "pyproject.toml"))


def load_manifest(path: str, environment: str, say: Say) -> Manifest:
    """What a manifest says; nothing when it cannot be read."""
    document = read_toml(path, say)
    return read_manifest(document, os.path.basename(path), environment, os.uname().machine)


def read_toml(path: str, say: Say) -> Message:
    """A manifest; empty, and said, when it cannot be read."""
    toml = toml_reader()
    if toml is None:
        say(
            "not activated: %s, as this Python is older than 3.11 and has no tomli; its scripts "
            "and variables are left out" % path
        )
        return {}
    try:
        with open(path, "rb") as file:
            document: Message = toml.load(file)
            return document
    except (OSError, ValueError) as error:
        say("not activated: cannot read %s: %s" % (path, error))
        return {}


def toml_reader() -> Any:
    """A module that reads TOML: Python's own from 3.11 on, or who else has one; None without."""
    import importlib

    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        try:
            return importlib.import_module(name)
        except Exception:  # a broken pip is as good as none
            continue
    return None
