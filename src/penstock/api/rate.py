"""How much clusters' own processes, and users, may say: token buckets, because bursts are honest."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.model.wire import MAX_FRAME, MAX_RATE


@dataclass(slots=True)
class Bucket:
    """At most ``rate`` takes a second on average and ``burst`` at once; times in seconds."""

    rate: float
    burst: float
    level: float
    at: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> Bucket:
        """A bucket that has not been used yet."""
        return cls(rate, burst, burst, now)

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Use ``amount`` of it; False, and nothing is used, when there is not so much left."""
        elapsed = max(0.0, now - self.at)
        self.level = min(self.burst, self.level + elapsed * self.rate)
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


@dataclass(slots=True)
class Changes:
    """How often each user may change something: every change costs a durable write.

    Thirty notebooks that start at once are far below it; a loop that scales for ever is not.
    """

    rate: float = 5.0
    burst: float = 100.0
    most: int = 10_000
    """Users that are remembered; where a password is shared, anybody may have any name."""
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, user: str, now: float) -> bool:
        """Note a change; False when this user makes too many."""
        bucket = self._buckets.get(user)
        if bucket is None:
            if len(self._buckets) >= self.most:
                self._buckets.clear()
            bucket = self._buckets[user] = Bucket.full(self.rate, self.burst, now)
        return bucket.take(now)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What all jobs of one cluster may say together, however many connections they open.

    ``channels`` that are opened, ``frames`` and ``volume`` (characters) on them, ``exits``
    reported. A report of a busy scheduler has a kilobyte; a hello of 100,000 workers a megabyte.
    """

    channels: Bucket
    frames: Bucket
    volume: Bucket
    exits: Bucket

    @classmethod
    def full(cls, now: float) -> Allowance:
        """The allowance of a cluster that has not spoken yet."""
        return cls(
            channels=Bucket.full(1, 30, now),
            frames=Bucket.full(MAX_RATE, 5 * MAX_RATE, now),
            volume=Bucket.full(MAX_FRAME / 16, 4 * MAX_FRAME, now),
            exits=Bucket.full(MAX_RATE, 1000, now),
        )
