"""Why jobs wait, where HTCondor says it of one job only, or not at all. Pure.

The negotiator asks for the first of many equal jobs and notes its refusal there alone; of a job that
it has not come to, or not for long, nobody says anything. Observed with HTCondor 23.9 and 25.14.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from penstock.model.ids import BatchId
from penstock.model.job import Job, Phase

Ad = Mapping[str, Any]

ATTRIBUTES = ("LastRejMatchTime", "LastMatchTime", "AutoClusterId", "ServerTime")
"""Of each job, besides those of ``parse``."""

UNSEEN = 20.0
"""Seconds that a job waits unlooked-at before that is worth a word; a cycle takes up to a minute."""

STALE = 900.0
"""Seconds after which a refusal is old news: the longest cycles of large pools take minutes."""

SAME_CYCLE = 2.0
"""Seconds: a machine that is given to one job is refused to the next in the same breath, and then
divided among them all."""

NOT_YET = "HTCondor has not looked for a machine yet"
NOT_LATELY = "HTCondor has not looked for a machine for more than 15 minutes"


def explained(found: Iterable[tuple[Ad, Job]]) -> Iterator[Job]:
    """The same jobs, those that wait with the reason of their whole submission."""
    submissions: dict[tuple[BatchId, str], list[tuple[Ad, Job]]] = defaultdict(list)
    for ad, job in found:
        submissions[job.batch, job.native.partition(".")[0]].append((ad, job))
    for all_of_it in submissions.values():
        reason = _reason(
            [ad for ad, _ in all_of_it], [ad for ad, job in all_of_it if _idle(ad, job)]
        )
        for ad, job in all_of_it:
            yield replace(job, reason=reason) if _idle(ad, job) else job


def _idle(ad: Ad, job: Job) -> bool:
    return job.phase is Phase.QUEUED and ad.get("JobStatus") == 1


def _reason(ads: list[Ad], waiting: list[Ad]) -> str:
    """Why those of a submission wait that do; they are all the same to HTCondor."""
    if not waiting:
        return ""
    now = max(_time(ad, "ServerTime") for ad in ads)
    refused = max(waiting, key=lambda ad: _time(ad, "LastRejMatchTime"))
    at = _time(refused, "LastRejMatchTime")
    words = " ".join(str(refused.get("LastRejMatchReason") or "").split())[:500]
    matched = max(_time(ad, "LastMatchTime") for ad in ads)
    if words and matched and at <= matched + SAME_CYCLE:
        return ""
    if words:
        return f"{words}; {NOT_LATELY}" if at and now - at > STALE else words
    seen = any("AutoClusterId" in ad or _time(ad, "LastMatchTime") for ad in ads)
    since = min(_time(ad, "QDate") for ad in ads)
    return NOT_YET if not seen and since and now - since >= UNSEEN else ""


def _time(ad: Ad, name: str) -> float:
    value = ad.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good else 0.0  # type: ignore[arg-type]
