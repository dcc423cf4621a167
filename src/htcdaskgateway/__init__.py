"""The names of Fermilab's and NCSA's client, importable as their users import them.

``from htcdaskgateway import HTCGateway, HTCGatewayCluster`` gives Penstock's classes, so notebooks
need no change. Do not install PyPI's ``htcdaskgateway`` or ``ncsa-htcdaskgateway`` beside it: they
have the same top-level name.
"""

from penstock.client.htcondor import HTCGateway, HTCGatewayCluster

__all__ = ["HTCGateway", "HTCGatewayCluster"]
