"""Guessing passwords made slow: after some failures the same caller has to wait, longer each time.

By name and address together, so that nobody can lock somebody else out from elsewhere; and by
address alone with more patience, because one shared password can be guessed under any name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

LONGEST = 60.0
"""The longest wait in seconds."""

FORGET = 900.0
"""Seconds without a failure after which a caller starts afresh."""

_MOST = 20_000


@dataclass(slots=True)
class _Record:
    failures: int
    last: float


class Throttle:
    """Counts failures of one kind of key; ``free`` of them cost nothing. Times are seconds of one
    clock, which the caller owns."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._records: OrderedDict[Hashable, _Record] = OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until the key may try again; 0.0 when it may now."""
        record = self._records.get(key)
        if record is None or now - record.last >= FORGET:
            return 0.0
        beyond = record.failures - self._free
        if beyond < 0:
            return 0.0
        return float(max(0.0, record.last + min(LONGEST, 2.0 ** min(beyond, 6)) - now))

    def failed(self, key: Hashable, now: float) -> None:
        """Note a failure."""
        record = self._records.get(key)
        if record is None or now - record.last >= FORGET:
            record = self._records[key] = _Record(0, now)
        record.failures += 1
        record.last = now
        self._records.move_to_end(key)
        if len(self._records) > _MOST:
            self._records.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._records.pop(key, None)
