"""Penstock: Dask clusters on demand for every user of an analysis facility."""

__version__ = "0.1.0"
