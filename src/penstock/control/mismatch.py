"""Workers and clients that run other versions than their scheduler, in people's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.model.errors import Invalid

NAMES = ("python", "distributed", "dask")
WHO = ("worker", "client")
MOST = 10
LONGEST = 40


@dataclass(frozen=True, slots=True)
class Mismatch:
    """``count`` processes that are alike. ``versions``: by name; "" for unknown."""

    who: str
    count: int
    versions: Mapping[str, str]


def parse_mismatch(said: object) -> tuple[Mismatch, ...]:
    """From a report, with distrust; an agent that says nothing knows of none. Raises Invalid."""
    if not said:
        return ()
    if not isinstance(said, list) or len(said) > MOST:
        raise Invalid(f"mismatch must be a list of at most {MOST} objects.")
    return tuple(_parse(each) for each in said)


def _parse(each: object) -> Mismatch:
    versions = each.get("versions") if isinstance(each, Mapping) else None
    if not isinstance(each, Mapping) or not isinstance(versions, Mapping):
        raise Invalid("mismatch must hold objects with versions.")
    who, count = each.get("who"), each.get("count")
    if who not in WHO or isinstance(count, bool) or not isinstance(count, int):
        raise Invalid("mismatch must say who, and how many.")
    texts = {name: versions.get(name) or "" for name in NAMES}
    if not 0 < count < 10**9 or not all(isinstance(text, str) for text in texts.values()):
        raise Invalid("mismatch must hold counts, and versions as text.")
    return Mismatch(who, count, {name: _clean(text) for name, text in texts.items()})


def _clean(text: str) -> str:
    """Versions are letters, digits and few signs; nothing else gets into an event."""
    return "".join(c for c in text[:LONGEST] if c.isascii() and (c.isalnum() or c in ".+-_!"))


def key(found: Sequence[Mismatch]) -> str:
    """What makes an event of it news: the kinds, and not how many there are."""
    return "; ".join(sorted(f"{each.who} {_shown(each.versions)}" for each in found))


def words(found: Sequence[Mismatch], scheduler: Mapping[str, str]) -> str:
    """The event; empty when everything matches. ``scheduler``: its own versions."""
    if not found:
        return ""
    parts = []
    for each in found:
        who = f"{each.count} {each.who}s run" if each.count > 1 else f"1 {each.who} runs"
        parts.append(f"{who} {_shown(each.versions)}")
    return (
        f"{'; '.join(parts)}; the scheduler runs {_shown(scheduler)}. Tasks may fail or hang: use "
        "one environment for notebook, scheduler and workers."
    )


def _shown(versions: Mapping[str, str]) -> str:
    titles = {"python": "Python"}
    known = [f"{titles.get(n, n)} {versions[n]}" for n in NAMES if versions.get(n)]
    return ", ".join(known) or "unknown versions"
