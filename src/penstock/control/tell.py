"""What users read about the state of a cluster that stands still: why, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping

from penstock.control import waiting, walltime
from penstock.control.entry import Entry
from penstock.control.facts import SCHEDULER, Plan, Submit
from penstock.control.launch import group_spec
from penstock.control.registry import Registry
from penstock.control.site import Site
from penstock.control.waiting import Said, moment
from penstock.model.job import Job, Phase


class Teller:
    """Turns what a round found into events, each once."""

    def __init__(self, registry: Registry, sites: Mapping[str, Site]) -> None:
        self._registry = registry
        self._sites = sites

    def why(self, entry: Entry, answer: Plan, now: float) -> float:
        """Why something that is wanted does not run yet, in the batch system's words.

        Returns when there may be more to say, though nothing happens: what is news in a silence.
        """
        for group in answer.held:
            site = self._sites[group_spec(entry.cluster, group).backend]
            if site.hold_until > now:
                self._registry.note_once(entry, "unavailable", site.excuse)
            else:
                self._registry.note_once(entry, "unavailable", site.refuses(entry.cluster.name))
        for group, number in answer.crowded.items():
            going = sum(
                a.count for a in answer.actions if isinstance(a, Submit) and a.group == group
            )
            self._crowded(entry, group, number, entry.current().get(group, 0) + going)
        return min(
            (self._waiting(entry, name, site, now) for name, site in self._sites.items()),
            default=math.inf,
        )

    def _crowded(self, entry: Entry, group: str, number: int, there: int) -> None:
        """Some are not even submitted, as the queue has no room for them."""
        site = self._sites[group_spec(entry.cluster, group).backend]
        cap, state = site.backend.capabilities.max_queued, entry.pressed.get(site.name)
        if state is not None and (state.delay or cap is None):
            if not state.delay:
                return  # it is still being found out how many fit
            limit = f"until {site.name} takes more jobs: {state.said}"
        else:
            limit = f"for the site's limit of {cap} queued jobs"
        who = "The scheduler waits"
        if group != SCHEDULER:
            who = f"{number} of {number + there} workers wait"
        # Told anew when it has halved or doubled, not with every job that starts.
        self._registry.note_changed(
            entry, "queue-limit", f"{group} {number.bit_length()} {limit}", f"{who} {limit}"
        )

    def _waiting(self, entry: Entry, name: str, site: Site, now: float) -> float:
        said, wall = entry.waits.get(name), self._registry.clock()
        jobs = site.jobs_of(entry.cluster.name)
        wait = waiting.wait_of(entry.rows.values(), jobs, name, wall)
        if wait is None:
            if said is not None and now - said.at > waiting.LONGEST:
                del entry.waits[name]
        elif waiting.news(said, wait, wall=wall, now=now):
            self._registry.note(entry.cluster, "waiting", wait.text)
            entry.waits[name] = Said.after(said, wait, now)
        elif said is not None and waiting.quiet_until(said) > now:
            return waiting.quiet_until(said)
        return math.inf

    def leaving(self, entry: Entry, number: int, first: float) -> None:
        """Workers near their end. ``first``: the first such end, seconds since the epoch."""
        at = moment(first, self._registry.clock())
        if number == 1:
            text = f"1 worker's time is over at {at}: it hands its data over, another follows if needed"
        else:
            text = (
                f"{number} workers' time is over from {at} on: they hand their data over, others "
                "follow as needed"
            )
        self._registry.note_once(entry, "leaving", text)

    def scheduler_ends(self, entry: Entry, job: Job) -> float | None:
        """Warn of the end of the scheduler's job. Seconds until that is due, None when it is not."""
        if job.ends is None or job.phase is not Phase.RUNNING:
            return None
        wall = self._registry.clock()
        left = walltime.warning(job, wall) - wall
        if left > 0:
            return left
        text = (
            f"The scheduler's job reaches its time limit at {moment(job.ends, wall)}, and then "
            "the cluster ends: save what you need."
        )
        self._registry.note_changed(entry, "scheduler-limit", str(int(job.ends // 60)), text)
        return None
