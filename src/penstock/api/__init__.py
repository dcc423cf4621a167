"""The REST API: what the unmodified ``dask_gateway`` client calls, the agents' channel, and ours."""
