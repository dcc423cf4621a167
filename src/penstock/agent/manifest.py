"""What a pixi project's manifest says about the activation of one of its environments. Pure.

Asking ``pixi shell-hook`` would be simpler where there is a pixi. Where there is one, hundreds of
workers would each check a lock file on a shared file system, and an older pixi than the project's
fails; where there is none, nothing would be activated. So its rules are followed here, as they
stand in prefix-dev/pixi (crates/pixi_core/src/activation.rs, crates/pixi_manifest/src/feature.rs).
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from penstock.agent.base import Message

MANIFESTS = ("pixi.toml", "pyproject.toml", "mojoproject.toml")


class Manifest(NamedTuple):
    """A manifest, as far as it matters here; ``scripts`` as written, relative to the project."""

    name: str
    version: str
    platforms: str
    scripts: List[str]
    env: Dict[str, str]


def table(value: Any, *keys: str) -> Message:
    """A table within tables; empty when it, or one on the way, is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def pixi_table(document: Message, file: str) -> Message:
    """pixi's part of a manifest: all of it, or ``[tool.pixi]`` of a pyproject.toml."""
    return table(document, "tool", "pixi") if file == "pyproject.toml" else document


def targets(machine: str) -> Sequence[str]:
    """Names of ``[target.…]`` tables that hold for Linux on a machine, the most specific first."""
    arch = {"x86_64": "64", "i686": "32"}.get(machine, machine)
    return ("linux-%s" % arch, "linux", "unix")


def read_manifest(document: Message, file: str, environment: str, machine: str) -> Manifest:
    """The activation of an environment: scripts in the order of its features, where the first
    feature's variables win; within a feature the most specific target that says something."""
    pixi = pixi_table(document, file)
    project = {**table(document, "project")} if file == "pyproject.toml" else {}
    project.update(table(pixi, "project"))
    project.update(table(pixi, "workspace"))
    scripts: List[str] = []
    variables: List[Dict[str, str]] = []
    for feature in features(pixi, environment):
        found, env = activation_of(feature, machine)
        scripts += found
        variables.append(env)
    merged: Dict[str, str] = {}
    for env in reversed(variables):
        merged.update(env)
    platforms = project.get("platforms")
    return Manifest(
        str(project.get("name") or ""),
        str(project.get("version") or "NO_VERSION_SPECIFIED"),
        ",".join(p for p in platforms if isinstance(p, str)) if isinstance(platforms, list) else "",
        scripts,
        merged,
    )


def features(pixi: Message, environment: str) -> List[Message]:
    """The tables of an environment's features; the default one, which is the manifest itself, is
    the last unless the environment does without it."""
    wanted = table(pixi, "environments").get(environment)
    names = wanted.get("features") if isinstance(wanted, dict) else wanted
    chosen = [table(pixi, "feature", str(name)) for name in names or [] if name != "default"]
    if not (isinstance(wanted, dict) and wanted.get("no-default-feature")):
        chosen.append(pixi)
    return chosen


def activation_of(feature: Message, machine: str) -> Tuple[List[str], Dict[str, str]]:
    """(scripts, variables) of one feature."""
    scripts: Optional[List[str]] = None
    env: Dict[str, str] = {}
    tables = [table(feature, "target", name, "activation") for name in targets(machine)]
    for activation in [*tables, table(feature, "activation")]:
        if scripts is None and isinstance(activation.get("scripts"), list):
            scripts = [str(script) for script in activation["scripts"]]
        for key, value in table(activation, "env").items():
            env.setdefault(key, str(value))
    return scripts or [], env
