"""Looking whether environments are there: with the user's own rights, and never for long.

A look as root would tell users what lies in other users' directories, and a file server that does
not answer holds whoever asks it, uninterruptibly. So a process of the user looks, and is given up
when it takes too long. It is a shell because everybody can run ``/bin/sh``, while the gateway's own
Python may lie where only root can read; paths are its arguments and no part of its program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

from penstock.environment.choice import Found, Place, Seen

PATIENCE = 5.0
"""Seconds after which a file server counts as not answering."""

MOST = 16
"""Looks at a time, those included that nothing can end; while there are as many, none begins."""

_SCRIPT = r"""
while [ "$#" -gt 1 ]; do
  if [ -e "$2/bin/python" ] || [ -L "$2/bin/python" ]; then printf 'there'
  elif [ -d "$1" ] && [ ! -x "$1" ]; then printf 'closed'
  elif [ -d "$1" ]; then
    printf 'bare'
    for other in "$1"/.pixi/envs/*/bin/python; do
      other=${other%/bin/python}
      [ -d "$other" ] && printf '/%s' "${other##*/}"
    done
  elif [ -z "${1%/*}" ] || [ ! -d "${1%/*}" ]; then printf 'unseen'
  elif [ ! -x "${1%/*}" ]; then printf 'closed'
  else printf 'absent'
  fi
  printf '\0'
  shift 2
done
"""

_looking: set[asyncio.Task[bytes]] = set()


class Account(Protocol):
    """As whom to look: a ``penstock.auth.Identity``, which stands in a room above this one."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def groups(self) -> tuple[int, ...]: ...


async def look(
    places: Sequence[Place], account: Account, *, patience: float | None = None
) -> dict[Place, Found]:
    """What the user sees at some places. A place is left out when nobody could look."""
    me = os.geteuid()
    if not places or me not in (0, account.uid) or len(_looking) >= MOST:
        return {}
    task = asyncio.create_task(_run(places, account, switch=me != account.uid))
    _looking.add(task)
    task.add_done_callback(_forget)
    try:
        output = await asyncio.wait_for(
            asyncio.shield(task), PATIENCE if patience is None else patience
        )
    except (OSError, asyncio.TimeoutError):
        return {}
    finally:
        task.cancel()
    return dict(zip(places, map(_parse, output.split(b"\0")), strict=False))


def _forget(task: asyncio.Task[bytes]) -> None:
    _looking.discard(task)
    if not task.cancelled():
        task.exception()  # told by whoever waited, if they still did


async def _run(places: Sequence[Place], account: Account, *, switch: bool) -> bytes:
    """The shell's output. When cancelled, lasts until the process is gone, however long."""
    as_user: dict[str, Any] = {}
    if switch:
        as_user = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _SCRIPT, "look"),
        *(word for place in places for word in (place.root, place.prefix)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        **as_user,
    )
    try:
        return (await process.communicate())[0]
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise


def _parse(record: bytes) -> Found:
    word, *others = record.decode("utf-8", "replace").split("/")
    try:
        return Found(Seen(word), tuple(ascii(name)[1:-1] for name in others[:20]))
    except ValueError:
        return Found()
