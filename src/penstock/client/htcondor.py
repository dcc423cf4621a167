"""``HTCGateway``: clusters whose workers are jobs that this notebook submits, as its user.

The server plans, as for any cluster; whenever workers shall be submitted, looked at or ended, it
asks the process beside this notebook (``penstock.client.helper``) to do it. So ``scale`` and
``adapt`` are the gateway's own, and so is everything that is known of a cluster.
"""

from __future__ import annotations

import os
import re
from typing import Any

import dask.config
from dask_gateway.client import GatewayClusterError

from penstock.client.cluster import GatewayCluster
from penstock.client.gateway import Gateway
from penstock.client.helper import Helper, HelperError
from penstock.client.site import configured, gateway_section

__all__ = ["HTCGateway", "HTCGatewayCluster"]

_NO_BASE = (
    "Where a site has unpacked images, gateway.htcondor.image-base of the Dask configuration says "
    "where, such as /cvmfs/unpacked.cern.ch."
)


class HTCGatewayCluster(GatewayCluster):
    """A cluster of the gateway; its workers are submitted from here where the profile says so.

    ``image``: of Docker Hub, or ``image_registry``; where the site has unpacked images, the workers
    run in that one, else it is the scheduler's alone. ``container_image``: what the workers run in, a .sif
    file or an unpacked directory. ``cpus``, ``memory`` and ``apptainer_image``: other words for
    ``worker_cores``, ``worker_memory`` and ``image``, as others' clients have them. Raises ValueError for
    an image that is not there, before anything is asked for.
    """

    status: str
    _helper: Helper | None = None
    _image = ""
    _new = False

    def __init__(
        self,
        *args: Any,
        image: str | None = None,
        image_registry: str | None = None,
        apptainer_image: str | None = None,
        container_image: str | None = None,
        cpus: float | None = None,
        memory: str | float | None = None,
        **kwargs: Any,
    ) -> None:
        images = configured().images
        chosen = kwargs.get("cluster_options")
        image = image or apptainer_image
        if image is None and chosen is not None and "image" in chosen:
            image = chosen.image or None
        self._image = images.path(image, image_registry, container_image)
        self._new = True
        if image and (image_registry or images.image_base):
            image = f"{image_registry or images.image_registry}/{image}"
        self._offers = {"image": image, "container_image": self._image or None}
        renamed = {"worker_cores": cpus, "worker_memory": memory}
        kwargs.update({name: value for name, value in renamed.items() if value is not None})
        super().__init__(*args, **kwargs)

    def _init_internal(self, **given: Any) -> None:
        """Made by itself, without a gateway, it finds address and login as ``HTCGateway`` does."""
        if given.get("address") is not None and given.get("auth") is not None:
            super()._init_internal(**given)
            return
        names = ("address", "proxy_address", "public_address", "auth", "asynchronous", "loop")
        gateway = HTCGateway(**{name: given.get(name) for name in names})
        try:
            super()._init_internal(**{**given, **gateway._access()})
        finally:
            if not gateway.asynchronous:
                gateway.close()

    @property
    def helper(self) -> Helper | None:
        """The process that submits the workers, None where the gateway does it itself."""
        return self._helper

    async def _begin(self) -> None:
        state: str = self.status
        if state == "created":
            self.status = "starting"
            self.name = await self._submit()
        if state in ("created", "starting"):
            await self._lend()
        await super()._begin()
        if self._helper is not None:
            await self._helped(self._helper)

    async def _submit(self) -> str:
        """Ask for the cluster. The images are told where the profile has an option for them, so that
        they are kept with the cluster; the workers' one is known here in any case."""
        offers = {name: value for name, value in self._offers.items() if value}
        while True:
            options = {**self._cluster_kwargs, **offers}
            try:
                name: str = await self.gateway._submit(
                    cluster_options=self._cluster_options, **options
                )
            except ValueError as error:
                refused = [name for name in offers if _refused(name, str(error))]
                if refused and not self._image:
                    raise ValueError(f"{error}. {_NO_BASE}") from None
                if not refused:
                    raise
                for name in refused:
                    del offers[name]
            else:
                return name

    async def _lend(self) -> None:
        """Start the process that submits the workers, if the cluster wants one."""
        url = f"{self.gateway.address}/api/v1/clusters/{self.name}/workers/ticket"
        try:
            given = await (await self.gateway._request("POST", url, json={})).json()
        except GatewayClusterError:  # the gateway starts the workers itself, or nobody of ours does
            return
        site = configured()
        proxy = self.gateway._request_kwargs.get("proxy")
        order = {
            "address": self.gateway.address,
            "gateway": given["gateway"],
            "ticket": given["ticket"],
            "keep": not self.shutdown_on_close,
            "backend": site.backend,
            "setup": site.images.setup(self._image),
            "proxy": None if proxy is None else str(proxy),
        }
        self._helper = Helper(self.name, order)

    async def _helped(self, helper: Helper) -> None:
        """Wait for the process. A cluster that was only connected to is of use without it."""
        try:
            await helper.ready()
        except HelperError as error:
            text = f"No workers can be submitted from here: {error}"
            if self._new:
                raise GatewayClusterError(text) from None
            print(text)

    async def _stop_internal(self, shutdown: bool | None = None) -> None:
        await super()._stop_internal(shutdown=shutdown)
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.leave(keep=not (self.shutdown_on_close if shutdown is None else shutdown))


class HTCGateway(Gateway):
    """As ``penstock.client.Gateway``; see the documentation page "Workers from the notebook".

    Address and credentials come from the Dask configuration, from variables as ``.env`` sets them, or
    from here. With a JupyterHub token and nothing said about ``auth``, that token is used.
    """

    def __init__(
        self,
        address: str | None = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        auth: Any = None,
        **kwargs: Any,
    ) -> None:
        section = gateway_section()
        said = section.get("auth") or {}
        usual = said.get("type") in (None, "basic") and not said.get("kwargs")
        if auth is None and usual and "JUPYTERHUB_API_TOKEN" in os.environ:
            auth = "jupyterhub"
        with dask.config.set({"gateway": section}):
            super().__init__(address, proxy_address, public_address, auth, **kwargs)

    def new_cluster(
        self, cluster_options: Any = None, shutdown_on_close: bool = True, **kwargs: Any
    ) -> HTCGatewayCluster:
        """A new cluster, once its scheduler runs; the options are ``HTCGatewayCluster``'s, and those
        of the gateway (``cluster_options()``)."""
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


def _refused(option: str, said: str) -> bool:
    """Whether the gateway says that the profile has no such option."""
    return re.search(rf"(?<!\w){option}'? is no option", said) is not None
