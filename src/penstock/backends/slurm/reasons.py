"""What Slurm's words for why a job waits mean to somebody who knows nothing of Slurm. Pure.

Above all whether waiting helps: it does where all jobs together are too many, and never where one of
them asks for too much. The words are squeue(1)'s, JOB REASON CODES, of 22.05 and 24.11. Those of
accounts follow a scheme: whose limit (Assoc, QOS), how it counts (Grp, Max, Min), of what, for whom.
"""

from __future__ import annotations

import re

_MEANINGS = {
    r"(?:Assoc|QOS)Max(?:Wall|\w*Minutes)\w*|PartitionTimeLimit": (
        "so long a job does not start: it needs a shorter time limit"
    ),
    r"(?:Assoc|QOS)Max\w*Per(?:Job|Node)\w*|MaxMemPerLimit|PartitionNodeLimit": (
        "so large a job does not start: ask for less"
    ),
    r"QOSMin\w+": "so small a job does not start: ask for more",
    r"(?:Assoc|QOS)Grp(?:Wall|\w*(?<!Run)Minutes)\w*|(?:Association|QOS)TimeLimit|QOSUsageThreshold": (
        "the account has used up its time: ask your admins"
    ),
    r"(?:Assoc|QOS)Max\w+|(?:Association|QOS)JobLimit": "you have as much as you may at a time",
    r"(?:Assoc|QOS)Grp\w+|(?:Association|QOS)ResourceLimit|Max\w+PerAccount": (
        "your account has as much as it may at a time"
    ),
    r"InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed": (
        "it is not, or no longer, yours to use: ask your admins"
    ),
    r"PartitionConfig": "no node of the partition is so large: ask for less",
}
"""The first pattern that is the whole word counts."""


def explained(reason: str) -> str:
    """A reason as Slurm says it, with its meaning where the word itself does not tell it."""
    for pattern, meaning in _MEANINGS.items():
        if re.fullmatch(pattern, reason):
            return f"{reason}, {meaning}"
    return reason
