"""Scaling studies for geospatial foundation models, from raw Sentinel-2 archives to a publishable figure."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`load_model`, imported on first use, since it needs torch."""
    if name == "load_model":
        from geoladder.training.hub import load_model

        return load_model
    raise AttributeError(f"module 'geoladder' has no attribute '{name}'")
