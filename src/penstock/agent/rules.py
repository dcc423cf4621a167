"""The decisions of a scheduler's agent, without any I/O or clock."""

import json
from collections import deque
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Set, Tuple

from penstock.agent.base import MAX_FRAME, Message

NAMES_BUDGET = MAX_FRAME // 3  # bytes of worker names in one message


class Bounds(NamedTuple):
    """An ``adapt`` message that makes sense."""

    active: bool
    minimum: int
    maximum: Optional[int]

    def clamp(self, count: int) -> int:
        """``count`` within the bounds."""
        count = max(self.minimum, count)
        return count if self.maximum is None else min(self.maximum, count)


def is_count(value: object) -> bool:
    """True for an integer from 0 on (a bool is none)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def parse_adapt(message: object) -> Optional[Bounds]:
    """The bounds that an ``adapt`` message sets, None for one that makes no sense."""
    if not isinstance(message, dict) or not isinstance(message.get("active"), bool):
        return None
    minimum = message.get("minimum")
    maximum = message.get("maximum")
    minimum = 0 if minimum is None else minimum
    if not is_count(minimum) or not (maximum is None or is_count(maximum)):
        return None
    return Bounds(message["active"], minimum, maximum)


def in_workers(wanted: int, present: int, nthreads: int) -> int:
    """The scheduler's wish as a number of workers: before the first worker comes it cannot know
    how many threads each will have, and counts threads."""
    return wanted if present else -(-wanted // max(1, nthreads))


class Retire(NamedTuple):
    """A ``retire`` message that makes sense."""

    id: object
    wanted: int
    names: Optional[FrozenSet[str]]


def parse_retire(message: Message) -> Optional[Retire]:
    """The request in a ``retire`` message, None for one that makes no sense."""
    names = message.get("names")
    if not isinstance(message.get("id"), (int, str)) or not is_count(message.get("count")):
        return None
    if names is not None and not isinstance(names, list):
        return None
    wanted = None if names is None else frozenset(str(name) for name in names)
    return Retire(message["id"], message["count"], wanted)


def absent(order: Iterable[Tuple[str, str]], request: Retire) -> List[str]:
    """Candidates that have not joined yet, or have left: they lose nothing by going, so they go
    first. Only the scheduler knows them for certain; the server may not have heard yet."""
    present = {name for _, name in order}
    return sorted((request.names or frozenset()) - present)[: request.wanted]


def choose(order: Iterable[Tuple[str, str]], request: Retire, taken: Set[str]) -> Dict[str, str]:
    """Which workers to retire, {address: name}: the first of ``order`` that are candidates and
    that no other request has taken."""
    chosen: Dict[str, str] = {}
    for address, name in order:
        if len(chosen) >= request.wanted:
            break
        if address not in taken and (request.names is None or name in request.names):
            chosen[address] = name
    return chosen


class Hysteresis:
    """Follows a wish up at once, and down only to the highest of the last ``samples`` wishes, so
    that a pause between two stages of a computation gives no worker away."""

    def __init__(self, current: int, samples: int = 6) -> None:
        self.current = current
        self.recent: deque[int] = deque(maxlen=samples)

    def update(self, wanted: int) -> int:
        """Take one more sample; the count to have now."""
        self.recent.append(wanted)
        if wanted > self.current:
            self.current = wanted
        elif len(self.recent) == self.recent.maxlen:
            self.current = min(self.current, max(self.recent))
        return self.current


class IdleClock:
    """Seconds without activity.

    Activity is work at hand (also work that no worker can take yet), any change of a task's
    state since the last look, and a client that connects: who has just come has not had the time
    to submit anything. Workers that come and go are none, or a flapping one would keep an
    abandoned cluster alive.
    """

    def __init__(self, now: float) -> None:
        self.since = now
        self.seen: object = None

    def update(self, now: float, busy: bool, counters: object) -> float:
        """Take one look: ``counters`` is anything that differs when there was activity."""
        if busy or counters != self.seen:
            self.since = now
            self.seen = counters
        return now - self.since


def fit(names: Iterable[str], budget: int = NAMES_BUDGET) -> List[str]:
    """As many names as fit into ``budget`` bytes of JSON; the rest goes with the next message."""
    fitting: List[str] = []
    for name in sorted(names):
        budget -= len(json.dumps(name)) + 2
        if budget < 0:
            break
        fitting.append(name)
    return fitting


def number(value: object) -> float:
    """A finite number, or 0.0: metrics come from workers, which may send anything."""
    if isinstance(value, (int, float)) and value == value and abs(value) < 1e300:
        return value
    return 0.0
