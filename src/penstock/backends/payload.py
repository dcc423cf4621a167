"""What a job gets as it was meant: packed into text that any batch system can carry. Pure.

Command, environment and files become one block of base64, which no shell and no batch system looks
into. In the job, the user's own Python unpacks it: see ``bootstrap.py``.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import os
import re
import zlib
from collections.abc import Sequence

from penstock.model.errors import Rejected
from penstock.model.job import Batch

CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_LONGEST = 131_072
"""Bytes of one argument or ``NAME=value`` that Linux takes (MAX_ARG_STRLEN, execve(2))."""


def check(batch: Batch, system: str, *, most: int) -> None:
    """Whether such a batch can be at all in a batch system. Raises Rejected with the reason."""
    if not 1 <= batch.count <= most:
        raise Rejected(f"a batch in this {system} has 1 to {most} jobs, not {batch.count}")
    if not batch.command or not batch.command[0] or CONTROL.search(batch.command[0]):
        raise Rejected("the command of a job must be the path or name of a Python")
    for word in batch.command:
        _fits(f"argument {word[:40]!a}", word)
    for key, value in batch.env.items():
        if not key or "=" in key:
            raise Rejected(f"{key[:40]!a} cannot be the name of an environment variable")
        _fits(f"environment variable {key[:40]!a}", f"{key}={value}")
    for name in batch.files:
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(name) > 200:
            raise Rejected(f"{name[:40]!a} cannot be the name of a file of a job")


def _fits(what: str, text: str) -> None:
    if "\0" in text:
        raise Rejected(f"{what} holds a NUL character, which no program can be given")
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        raise Rejected(f"{what} is not text that UTF-8 can hold") from None
    if size >= _LONGEST:
        raise Rejected(f"{what} has {size} bytes, and Linux takes at most {_LONGEST - 1}")


def pack(batch: Batch, keep: Sequence[str] = ()) -> str:
    """What ``bootstrap`` unpacks, in lines of base64.

    ``keep``: variables that the job takes over from the batch system where it sets them.
    """
    content = {
        "command": [_text(os.fsencode(word)) for word in batch.command],
        "env": {_text(os.fsencode(k)): _text(os.fsencode(v)) for k, v in batch.env.items()},
        "files": {_text(os.fsencode(k)): _text(v) for k, v in batch.files.items()},
        "devices": list(keep),
    }
    return base64.encodebytes(zlib.compress(json.dumps(content).encode())).decode()


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def bootstrap() -> str:
    """The source of ``bootstrap.py``, for ``python -c``."""
    return importlib.resources.files(__package__).joinpath("bootstrap.py").read_text("utf-8")
