"""``dask_gateway.Gateway`` plus groups of workers, events, logs and numbers of a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from penstock.client.closing import Closing
from penstock.client.cluster import GatewayCluster, adapt_group, scale_group

__all__ = ["Gateway", "GatewayCluster"]


class Gateway(Closing):
    """As ``dask_gateway.Gateway``, address and credentials from the Dask configuration too."""

    def new_cluster(
        self, cluster_options: Any = None, shutdown_on_close: bool = True, **kwargs: Any
    ) -> GatewayCluster:
        """As in ``dask_gateway``; the cluster's ``scale`` and ``adapt`` know groups."""
        return GatewayCluster(
            **self._access(),
            cluster_options=cluster_options,
            shutdown_on_close=shutdown_on_close,
            **kwargs,
        )

    def connect(self, cluster_name: str, shutdown_on_close: bool = False) -> GatewayCluster:
        """As in ``dask_gateway``; the cluster's ``scale`` and ``adapt`` know groups."""
        found: GatewayCluster = GatewayCluster.from_name(
            cluster_name, shutdown_on_close=shutdown_on_close, **self._access()
        )
        return found

    def _access(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "public_address": self._public_address,
            "proxy_address": self.proxy_address,
            "auth": self.auth,
            "asynchronous": self.asynchronous,
            "loop": self.loop,
        }

    async def _scale_cluster(self, cluster_name: str, n: int, group: str | None = None) -> None:
        await scale_group(self, cluster_name, n, group)

    async def _adapt_cluster(self, cluster_name: str, **wish: Any) -> None:
        await adapt_group(self, cluster_name, **wish)

    async def _ask(self, cluster_name: str, what: str, **query: object) -> Any:
        pairs = "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
        url = f"{self.address}/api/v1/clusters/{quote(cluster_name, safe='')}/{what}?{pairs}"
        return await self._request("GET", url)

    async def _events(self, cluster_name: str, limit: int) -> list[dict[str, Any]]:
        answer = await self._ask(cluster_name, "events", limit=limit)
        rows: list[dict[str, Any]] = (await answer.json())["events"]
        return rows

    async def _logs(self, cluster_name: str, job: str, tail: int) -> str:
        answer = await self._ask(cluster_name, "logs", job=job, tail=tail)
        text: str = await answer.text()
        return text

    async def _live(self, cluster_name: str) -> dict[str, Any]:
        answer = await self._ask(cluster_name, "live")
        report: dict[str, Any] = await answer.json()
        return report

    async def _jobs(self, cluster_name: str) -> list[dict[str, Any]]:
        answer = await self._ask(cluster_name, "jobs")
        rows: list[dict[str, Any]] = (await answer.json())["jobs"]
        return rows

    def events(self, cluster_name: str, *, limit: int = 200) -> Any:
        """What happened to a cluster, oldest first: dicts of time (ms), kind and text."""
        return self.sync(self._events, cluster_name, limit)

    def logs(self, cluster_name: str, job: str = "s0-0", *, tail: int = 65536) -> Any:
        """The last ``tail`` bytes that a job printed: ``s0-0`` the scheduler, ``w3-4`` a worker."""
        return self.sync(self._logs, cluster_name, job, tail)

    def live(self, cluster_name: str) -> Any:
        """The scheduler's last report (workers, tasks, memory) and each group's target."""
        return self.sync(self._live, cluster_name)

    def jobs(self, cluster_name: str) -> Any:
        """A cluster's jobs in the batch system: dicts of job (``w3-4``), native (the batch system's
        id), role, group, phase, exit, reason, node, wait (seconds in the queue), and submitted,
        since, expected and ends (seconds since the epoch or None)."""
        return self.sync(self._jobs, cluster_name)
