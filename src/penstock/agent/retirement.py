"""Retiring workers: their data moves to others first, then they close.

A request may come twice (the server did not get the answer) and several may be under way at once;
no worker is chosen by two, and every request is carried out once. Answers are not kept for long:
a restarted server may count its requests from 1 again.
"""

import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from penstock.agent.base import Message
from penstock.agent.child import describe, logger
from penstock.agent.rules import Retire, absent, choose

ANSWER_TIME = 60.0  # seconds for which a repeated request gets the answer that it already got


class Retirement:
    """Carries out ``retire`` requests on one scheduler."""

    def __init__(
        self,
        scheduler: Any,
        send: Callable[[Message], object],
        spawn: Callable[[Any], None],
    ) -> None:
        self.scheduler = scheduler
        self.send = send
        self.spawn = spawn
        self.retiring: Set[str] = set()
        self.under_way: Set[Retire] = set()
        self.answers: OrderedDict[Retire, Tuple[float, Message]] = OrderedDict()

    def answer(self, request: Optional[Retire]) -> None:
        """Retire workers, once for each request however often it is sent."""
        if request is None or request in self.under_way:
            return
        while (
            self.answers and next(iter(self.answers.values()))[0] < time.monotonic() - ANSWER_TIME
        ):
            self.answers.popitem(last=False)
        if request in self.answers:
            self.send(self.answers[request][1])
        else:
            self.under_way.add(request)
            self.spawn(self.retire(request))

    async def retire(self, request: Retire) -> None:
        """Move the data of some workers away, close them, and say which."""
        error = None
        done: Dict[str, str] = {}
        chosen: Dict[str, str] = {}
        away: List[str] = []
        try:
            order = self.order()
            away = absent(order, request)
            rest = request._replace(wanted=request.wanted - len(away))
            chosen = choose(order, rest, self.retiring)
            self.retiring.update(chosen)
            if chosen:
                done = await self.retire_workers(chosen)
            if len(done) < len(chosen):
                kept = ", ".join(sorted(set(chosen.values()) - set(done.values())))
                error = "no other worker could take the data of %s" % kept
        except Exception as problem:
            logger().exception("retiring %s failed", ", ".join(chosen.values()))
            error = describe(problem)
        finally:
            self.retiring.difference_update(chosen)
        names = sorted([*done.values(), *away])
        answer = {"op": "retired", "id": request.id, "names": names, "error": error}
        self.under_way.discard(request)
        self.answers[request] = time.monotonic(), answer
        self.send(answer)

    async def retire_workers(self, chosen: Dict[str, str]) -> Dict[str, str]:
        """Retire by address; those that went, {address: name}."""
        result = await self.scheduler.retire_workers(
            workers=list(chosen), close_workers=True, remove=True
        )
        gone = {a: n for a, n in chosen.items() if a in result or a not in self.scheduler.workers}
        left = [address for address in chosen if address not in gone]
        if left and not set(self.scheduler.workers) - self.retiring:
            # All workers shall go, so nobody was left to take the data: that was the wish.
            for address in left:
                self.scheduler.worker_send(address, {"op": "close"})
                gone[address] = chosen[address]
        return gone

    def order(self) -> List[Tuple[str, str]]:
        """(address, name) of all workers, those that cost least to lose first. Those with tasks
        that must not move (``worker_client``) come last: the scheduler itself never offers them."""
        workers = self.scheduler.workers
        offered = [a for a in self.scheduler.workers_to_close(n=len(workers)) if a in workers]
        known = set(offered)
        offered += [address for address in workers if address not in known]
        return [(address, str(workers[address].name)[:200]) for address in offered]
