"""``dask_gateway.GatewayCluster`` whose ``scale`` and ``adapt`` can name a group of workers.

The REST API has taken a group since the first version, but ``dask_gateway`` sends none, so its users
only reach the first group of a profile.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from typing import Any

from dask_gateway import GatewayCluster as BaseCluster
from dask_gateway import GatewayWarning

from penstock.client.closing import Closing, adopt, keep
from penstock.client.telling import telling


class GatewayCluster(BaseCluster):  # type: ignore[misc]  # dask_gateway has no types
    """As ``dask_gateway.GatewayCluster``."""

    def _init_internal(self, **given: Any) -> None:
        try:
            super()._init_internal(**given)
        finally:
            adopt(getattr(self, "gateway", None))

    def __del__(self) -> None:
        gateway = getattr(self, "gateway", None)
        if gateway is None or self.asynchronous or self.status == "closed":
            return
        if self._in_loop():
            keep(asyncio.ensure_future(self._stop_internal()))
            return
        super().__del__()

    def close(self, shutdown: bool | None = None) -> Any:
        """As the base class; for ``Client.shutdown()``, which asks in the event loop that this waits
        for, something to await instead, which ends the cluster."""
        if not self.asynchronous and self._in_loop():
            return self._stop_internal(shutdown=True if shutdown is None else shutdown)
        return super().close(shutdown=shutdown)

    def _in_loop(self) -> bool:
        """Whether waiting here would be for ever."""
        gateway = getattr(self, "gateway", None)
        return isinstance(gateway, Closing) and gateway.in_its_loop()

    async def _start_async(self) -> None:
        with telling(self.gateway):
            await self._begin()

    async def _begin(self) -> None:
        """Make the cluster, or connect to it."""
        await super()._start_async()

    def scale(self, n: int, group: str | None = None) -> Any:
        """Have ``n`` workers in a group (None: the profile's first)."""
        return self.gateway.sync(scale_group, self.gateway, self.name, n, group)

    def adapt(
        self,
        minimum: int | None = None,
        maximum: int | None = None,
        active: bool = True,
        group: str | None = None,
    ) -> Any:
        """Let a group (None: the profile's first) follow the load; one group of a cluster can."""
        wish = {"minimum": minimum, "maximum": maximum, "active": active, "group": group}
        return self.gateway.sync(adapt_group, self.gateway, self.name, **wish)


async def scale_group(gateway: Any, name: str, n: int, group: str | None = None) -> None:
    """Ask for ``n`` workers of a group. Warns with the server's words when it grants fewer."""
    await _wish(gateway, name, "scale", {"count": n}, group)


async def adapt_group(
    gateway: Any,
    name: str,
    minimum: int | None = None,
    maximum: int | None = None,
    active: bool = True,
    group: str | None = None,
) -> None:
    """Ask for workers as the load demands. Warns with the server's words when it limits them."""
    wish = {"minimum": minimum, "maximum": maximum, "active": active}
    await _wish(gateway, name, "adapt", wish, group)


async def _wish(
    gateway: Any, name: str, what: str, wish: Mapping[str, object], group: str | None
) -> None:
    url = f"{gateway.address}/api/v1/clusters/{name}/{what}"
    body = wish if group is None else {**wish, "group": group}
    answer = await (await gateway._request("POST", url, json=body)).json()
    if not answer.get("ok", True) and answer.get("msg"):
        warnings.warn(GatewayWarning(answer["msg"]), stacklevel=2)
