"""Which workers and clients run other versions than the scheduler, and who hears of it.

Dask itself tells a client what does not match when it connects, but not when the workers come after
that, as they mostly do: then the first task hangs, and nobody says why. So clients are sent a
warning as ``distributed.worker.warn`` would send it; clients that are too old to know it ignore it.
What Dask has told already is not told again.
"""

import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from penstock.agent.base import Message

MOST_KINDS = 5  # in one report, and in memory of clients: names of versions are anybody's to choose
LONGEST = 40  # characters of a version

PACKAGES = ("distributed", "dask")


class Kind(NamedTuple):
    """Processes that are alike: ``who`` is "worker" or "client"; versions as they say."""

    who: str
    python: str
    distributed: str
    dask: str


def kind_of(who: str, said: Any) -> Kind:
    """From what ``distributed.versions.get_versions`` gave on the other side ("" for unknown)."""
    said = said if isinstance(said, dict) else {}
    host, packages = said.get("host"), said.get("packages")
    host = host if isinstance(host, dict) else {}
    packages = packages if isinstance(packages, dict) else {}
    python = ".".join(_text(host.get("python")).split(".")[:3])
    return Kind(who, python, *(_text(packages.get(name)) for name in PACKAGES))


def _text(value: object) -> str:
    return value[:LONGEST] if isinstance(value, str) else ""


def own_kind() -> Kind:
    """What the scheduler runs."""
    from distributed.versions import get_versions

    return kind_of("scheduler", get_versions())


def matches(own: Kind, kind: Kind) -> bool:
    """Whether what is known of a kind fits the scheduler: Python to the minor version, the others
    exactly, as Dask asks for."""
    if kind.python and kind.python.split(".")[:2] != own.python.split(".")[:2]:
        return False
    return all(getattr(kind, name) in ("", getattr(own, name)) for name in PACKAGES)


def described(kind: Kind) -> str:
    """Versions for people."""
    return "Python %s, distributed %s and dask %s" % tuple(text or "?" for text in kind[1:])


def mismatch_warning(own: Kind, kind: Kind) -> str:
    """What a client reads of workers that do not match."""
    return (
        "Workers of this cluster run %s, its scheduler %s: tasks may fail or hang. "
        "Use one environment for notebook, scheduler and workers."
        % (described(kind), described(own))
    )


class Matching:
    """Looks at everybody's versions again and again; cheap, as most are old acquaintances."""

    def __init__(self, scheduler: Any, own: Kind) -> None:
        self.scheduler = scheduler
        self.own = own
        self.found: Dict[Kind, int] = {}
        self.judged: Dict[str, Tuple[object, Optional[Kind]]] = {}
        self.seen: Set[str] = set()
        self.told: Set[Tuple[str, Kind]] = set()

    def look(self, clients: Iterable[str]) -> None:
        """Count the kinds that do not match, and tell the clients. Those that have only just come
        wait for the next look: they are not ready for warnings yet, and have heard from Dask of the
        workers that were there before them."""
        known = set(clients)
        states = [("worker", name, state) for name, state in self.scheduler.workers.items()]
        states += [("client", key, self.scheduler.clients.get(key)) for key in known]
        counts: Dict[Kind, int] = {}
        before, self.judged = self.judged, {}
        stayed: Set[Kind] = set()
        for who, name, state in states:
            said = getattr(state, "versions", None)
            last = before.get(name)
            if last is None or last[0] is not said:
                last = (said, self.judge(kind_of(who, said)))
            elif last[1] is not None:
                stayed.add(last[1])
            self.judged[name] = last
            self.count(counts, last[1])
        self.found = counts
        self.told = {(key, kind) for key, kind in self.told if key in known}
        self.told |= {(key, kind) for key in known - self.seen for kind in stayed}
        for key in known & self.seen:
            self.tell(key)
        self.seen = known

    def judge(self, kind: Kind) -> Optional[Kind]:
        """The kind if it does not match, which is looked at only once of everybody."""
        return None if matches(self.own, kind) else kind

    def count(self, counts: Dict[Kind, int], kind: Optional[Kind]) -> None:
        """One more of a kind that does not match."""
        if kind is not None and (kind in counts or len(counts) < MOST_KINDS):
            counts[kind] = counts.get(kind, 0) + 1

    def tell(self, key: str) -> None:
        """Warn a client of each kind of workers, once."""
        stream = self.scheduler.client_comms.get(key)
        for kind in self.found:
            if stream is None or kind.who != "worker" or (key, kind) in self.told:
                continue
            self.told.add((key, kind))
            event = (time.time(), mismatch_warning(self.own, kind))
            stream.send({"op": "event", "topic": "warn", "event": event})

    def report(self) -> List[Message]:
        """The same for the server."""
        return [
            {
                "who": kind.who,
                "count": count,
                "versions": {name: getattr(kind, name) for name in ("python", *PACKAGES)},
            }
            for kind, count in self.found.items()
        ]
