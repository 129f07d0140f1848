"""Scaling studies for geospatial foundation models, from raw Sentinel-2 archives to a publishable figure."""

__version__ = "0.1.0"
