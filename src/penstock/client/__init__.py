"""The client's side: ``dask_gateway`` with what Penstock adds to it.

Nobody needs this package: the unmodified ``dask_gateway.Gateway`` does everything that it ever
did. ``penstock.client.Gateway`` is that class with the questions that only Penstock answers.
"""

from penstock.client.gateway import Gateway, GatewayCluster
from penstock.client.htcondor import HTCGateway, HTCGatewayCluster

__all__ = ["Gateway", "GatewayCluster", "HTCGateway", "HTCGatewayCluster"]
