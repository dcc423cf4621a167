"""``dask_gateway.Gateway`` that may be closed twice, and collected as garbage in any thread.

The base class closes itself when it is collected, by waiting for its own event loop. Python collects
where it happens to be: in the loop's own thread that wait never ends, and the notebook hangs.

Clusters make such a gateway for themselves, so what they ask it is told here, too: ``telling``.
"""

from __future__ import annotations

import asyncio
import atexit
import weakref
from typing import Any, ClassVar

from dask_gateway import Gateway as BaseGateway

from penstock.client.telling import telling


class Closing(BaseGateway):  # type: ignore[misc]  # dask_gateway has no types
    """See the module."""

    _all: ClassVar[weakref.WeakSet[Closing]] = weakref.WeakSet()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all.add(self)

    def close(self) -> Any:
        """Close the client; once more is fine."""
        if getattr(self, "_closed", False):
            return None
        self._closed = True
        return super().close()

    async def _request(self, *args: Any, **kwargs: Any) -> Any:
        with telling(self):
            return await super()._request(*args, **kwargs)

    def in_its_loop(self) -> bool:
        """Whether this runs in the thread that its event loop needs."""
        try:
            return asyncio.get_running_loop() is self.loop.asyncio_loop
        except RuntimeError:  # there is no loop here, or it has been stopped
            return False

    def __del__(self) -> None:
        if getattr(self, "_closed", False) or not hasattr(self, "_loop_runner"):
            return
        if not self.asynchronous and self.in_its_loop():
            if self._session is not None:
                keep(asyncio.ensure_future(self._session.close()))
            return
        super().__del__()


def adopt(gateway: Any) -> None:
    """Make one of ours of the gateway that ``dask_gateway`` made for a cluster by itself."""
    if type(gateway) is BaseGateway:
        gateway.__class__ = Closing
        Closing._all.add(gateway)


_tasks: set[asyncio.Future[Any]] = set()


def keep(task: asyncio.Future[Any]) -> None:
    """Until it is done: the loop alone would not."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


@atexit.register
def _close_sessions() -> None:
    """A script that ends without closing its gateway is not told of unclosed sessions for that."""
    for gateway in list(Closing._all):
        if getattr(gateway, "_closed", False) or gateway.asynchronous:
            continue
        if gateway.loop.asyncio_loop.is_running():
            gateway.sync(gateway._cleanup)
