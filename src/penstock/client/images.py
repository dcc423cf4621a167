"""Images of workers, checked before anything is submitted: a misspelt one is told at once."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

REGISTRY = "registry.hub.docker.com"
"""Docker Hub, as the images below ``/cvmfs/unpacked.cern.ch`` are sorted."""


def unpacked(base: str, registry: str, image: str) -> str:
    """The directory of an unpacked image: ``<base>/<registry>/<image>``.

    Raises ValueError, which says what was looked for and what is near it.
    """
    name = image
    if not image.startswith(f"{registry}/"):
        name = f"{registry}/{image}"
    path = Path(base) / name
    if ".." in path.parts or not path.is_relative_to(base):
        raise ValueError(f"{image!r} cannot be the name of an image")
    if not path.is_dir():
        raise ValueError(f"There is no image {path}{near(path, Path(base))}")
    return str(path)


def checked(path: str) -> str:
    """A .sif file or an unpacked directory that can be seen from here; ``docker://…`` is not looked
    for. Raises ValueError as ``unpacked`` does."""
    if not path.startswith("/"):
        return path
    if not os.path.exists(path):
        raise ValueError(f"There is no image {path}{near(Path(path), Path('/'))}")
    return path


def near(path: Path, base: Path) -> str:
    """What is like a path that is not there, as the end of a sentence."""
    parent = path.parent
    wanted = path.name
    while not parent.is_dir() and parent not in (base, Path("/")):
        wanted, parent = parent.name, parent.parent
    try:
        there = sorted(entry.name for entry in parent.iterdir())
    except OSError as error:
        return f": {parent} cannot be looked into ({error.strerror}); is it mounted here?"
    alike = difflib.get_close_matches(wanted, there, 3, 0.6)
    if alike:
        return f"; did you mean {' or '.join(str(parent / name) for name in alike)}?"
    if parent == Path("/"):
        return f"; there is no /{wanted} here: is it mounted?"
    if not there:
        return f"; {parent} is empty: is it mounted here?"
    return f"; in {parent} there are {', '.join(there[:5])}{', …' if len(there) > 5 else ''}"
