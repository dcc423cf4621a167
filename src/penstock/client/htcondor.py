"""``HTCGateway``: clusters whose workers are jobs that this notebook submits, as its user.

The server plans, as for any cluster; whenever workers shall be submitted, looked at or ended, it
asks the process beside this notebook (``penstock.client.helper``) to do it. So ``scale`` and
``adapt`` are the gateway's own, and so is everything that is known of a cluster.
"""

from __future__ import annotations

from typing import Any

from dask_gateway.client import GatewayClusterError

from penstock.client.cluster import GatewayCluster
from penstock.client.gateway import Gateway
from penstock.client.helper import Helper, HelperError
from penstock.client.site import configured

__all__ = ["HTCGateway", "HTCGatewayCluster"]


class HTCGatewayCluster(GatewayCluster):
    """A cluster of the gateway; its workers are submitted from here where the profile says so."""

    _helper: Helper | None = None

    @property
    def helper(self) -> Helper | None:
        """The process that submits the workers, None where the gateway does it itself."""
        return self._helper

    async def _start_async(self) -> None:
        if self.status == "created":
            self.status = "starting"
            self.name = await self.gateway._submit(
                cluster_options=self._cluster_options, **self._cluster_kwargs
            )
            self._new = True
        if self.status == "starting":
            await self._lend()
        await super()._start_async()
        if self._helper is not None:
            await self._helped(self._helper)

    async def _lend(self) -> None:
        """Start the process that submits the workers, if the cluster wants one."""
        url = f"{self.gateway.address}/api/v1/clusters/{self.name}/workers/ticket"
        try:
            given = await (await self.gateway._request("POST", url, json={})).json()
        except GatewayClusterError:  # the gateway starts the workers itself, or nobody of ours does
            return
        site = configured()
        order = {
            "address": self.gateway.address,
            "gateway": given["gateway"],
            "ticket": given["ticket"],
            "keep": not self.shutdown_on_close,
            "backend": site.backend,
            "setup": site.setup,
            "proxy": _text(self.gateway._request_kwargs.get("proxy")),
        }
        self._helper = Helper(self.name, order)

    async def _helped(self, helper: Helper) -> None:
        """Wait for the process. A cluster that was only connected to is of use without it."""
        try:
            await helper.ready()
        except HelperError as error:
            if getattr(self, "_new", False):
                raise GatewayClusterError(
                    f"No workers can be submitted from here: {error}"
                ) from None
            print(f"No workers can be submitted from here: {error}")

    async def _stop_internal(self, shutdown: bool | None = None) -> None:
        await super()._stop_internal(shutdown=shutdown)
        helper, self._helper = self._helper, None
        if helper is not None:
            keep = not (self.shutdown_on_close if shutdown is None else shutdown)
            await helper.leave(keep=keep)


class HTCGateway(Gateway):
    """As ``penstock.client.Gateway``; see the documentation page "Workers from the notebook"."""

    def new_cluster(
        self, cluster_options: Any = None, shutdown_on_close: bool = True, **kwargs: Any
    ) -> HTCGatewayCluster:
        """A new cluster, once its scheduler runs."""
        return HTCGatewayCluster(
            **self._access(),
            cluster_options=cluster_options,
            shutdown_on_close=shutdown_on_close,
            **kwargs,
        )

    def connect(self, cluster_name: str, shutdown_on_close: bool = False) -> HTCGatewayCluster:
        """A cluster that runs already; its workers are submitted from here from now on."""
        found: HTCGatewayCluster = HTCGatewayCluster.from_name(
            cluster_name, shutdown_on_close=shutdown_on_close, **self._access()
        )
        return found


def _text(value: object) -> str | None:
    return None if value is None else str(value)
