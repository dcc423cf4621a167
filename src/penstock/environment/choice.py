"""Which environment a user or a site chose: a conda prefix, one of a pixi project, or a venv. Pure.

The server may not see what the user sees: another host, another mount, no right to look. So what is
asked for becomes places to look at, somebody with the user's rights looks (``look``), and from what
they saw follows the environment, or a refusal only where it is certain that there is none.
"""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.cluster import Activation
from penstock.model.errors import Invalid

OPTIONS = ("conda_env", "pixi_project", "venv")
"""Options that each name an environment, of which a cluster takes one."""

MANIFESTS = frozenset({"pixi.toml", "pyproject.toml", "mojoproject.toml"})

_PYTHON = re.compile(r"/bin/python[0-9.]*$")


class Seen(str, enum.Enum):
    """What a look at a place found."""

    THERE = "there"  # its bin/python is there
    BARE = "bare"  # its directory is there, without it
    ABSENT = "absent"  # only the directory above
    CLOSED = "closed"  # there is no right to see, at least not on this machine
    UNSEEN = "unseen"  # not even that: perhaps another machine's file system
    UNKNOWN = "unknown"  # nobody could look, or it took too long


@dataclass(frozen=True, slots=True)
class Place:
    """Where an environment would be: ``root`` is what the user named, ``prefix`` the environment
    at or below it."""

    root: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at one place found, and the environments of the same pixi project."""

    seen: Seen = Seen.UNKNOWN
    others: tuple[str, ...] = ()


def tidy(path: str) -> str:
    """A prefix, also when it was given with a trailing slash or as the path of its Python."""
    return _PYTHON.sub("", path.rstrip("/")) or "/"


def conda(prefix: str) -> Activation:
    """The activation of a conda prefix."""
    return Activation("conda", prefix)


def venv(prefix: str) -> Activation:
    """The activation of a virtual environment (or of a conda prefix: the agent sees which)."""
    return Activation("venv", prefix)


def pixi(project: str, environment: str) -> Activation:
    """The activation of an environment of a pixi project, named by directory or manifest.

    Environments that are kept elsewhere ("detached") are linked from there by pixi itself.
    """
    environment = environment or "default"
    return Activation("pixi", f"{_root(project)}/.pixi/envs/{environment}", project, environment)


def place(activation: Activation) -> Place:
    """Where to look for an environment."""
    pixi = activation.kind == "pixi"
    return Place(_root(activation.project) if pixi else activation.prefix, activation.prefix)


def asked(options: Mapping[str, object], directories: Sequence[str]) -> tuple[Activation, ...]:
    """The environments that parsed options may mean: none, one, or for the *name* of a conda
    environment one in each of ``directories``. Raises Invalid when the options exclude each other.
    """
    given = {name: str(options[name]) for name in OPTIONS if options.get(name)}
    environment = str(options.get("pixi_env") or "")
    names = [*given, *(["pixi_env"] if environment and "pixi_project" not in given else [])]
    if len(names) > 1:
        raise Invalid(f"{' and '.join(names)} exclude each other; name one environment")
    if "pixi_project" in given:
        return (pixi(given["pixi_project"], environment),)
    if "venv" in given:
        return (venv(tidy(given["venv"])),)
    if "conda_env" in given:
        name = given["conda_env"]
        prefixes = [tidy(name)] if name.startswith("/") else [f"{d}/{name}" for d in directories]
        return tuple(map(conda, prefixes))
    return ()


def choose(
    candidates: Sequence[Activation], looks: Mapping[Place, Found], *, certain: bool
) -> Activation:
    """The environment that is meant. Raises Invalid when there is none.

    ``certain``: whoever looked sees what the jobs see, so that what is not seen is not there.
    """
    found = [(each, looks.get(place(each), Found())) for each in candidates]
    for each, look in found:
        if look.seen is Seen.THERE:
            return each
    absent = {Seen.BARE, Seen.ABSENT, *([Seen.CLOSED, Seen.UNSEEN] if certain else [])}
    possible = [each for each, look in found if look.seen not in absent]
    if len(possible) == 1:
        return possible[0]
    if possible:
        name, places = posixpath.basename(possible[0].prefix), _list(possible)
        raise Invalid(
            f"conda_env: this gateway cannot see which of {places} is there; give the path instead "
            f"of the name {name!a}"
        )
    raise Invalid(_missing(found))


def _missing(found: Sequence[tuple[Activation, Found]]) -> str:
    first, look = found[0]
    if len(found) > 1:
        name = posixpath.basename(first.prefix)
        places = _list([each for each, _ in found])
        return f"conda_env: there is no environment {name!a}: looked for {places}"
    option = {"conda": "conda_env", "pixi": "pixi_project"}.get(first.kind, "venv")
    if look.seen is Seen.CLOSED:
        return f"{option}: permission denied: as the jobs' user one cannot see {_python(first)}"
    if first.kind == "pixi":
        text = (
            f"pixi_project: there is no environment {first.environment!a} in {_root(first.project)!a}"
            f": {_python(first)} is missing; run 'pixi install -e {first.environment}' there"
        )
        return text + (f", or name one of {', '.join(look.others)}" if look.others else "")
    return (
        f"{option}: there is no Python environment at {first.prefix!a}: {_python(first)} is missing; "
        f"give the directory of one"
    )


def _python(activation: Activation) -> str:
    """For people, whose terminal it must not confuse."""
    return ascii(f"{activation.prefix}/bin/python")[1:-1]


def _list(activations: Sequence[Activation]) -> str:
    return ", ".join(map(_python, activations))


def _root(project: str) -> str:
    directory, name = posixpath.split(project)
    return directory if name in MANIFESTS else project
