"""How often a cluster's own processes may speak: a token bucket, because bursts are honest."""

from __future__ import annotations

from dataclasses import dataclass


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

    def take(self, now: float) -> bool:
        """Use one; False when there is none left."""
        elapsed = max(0.0, now - self.at)
        self.level = min(self.burst, self.level + elapsed * self.rate)
        self.at = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True
