"""Backends that the scans of Mamba run by. Imports nothing: the command line names them, and starts at once."""

from typing import Literal

ScanName = Literal["auto", "mamba_ssm", "triton", "numba", "torch"]
"""`auto` is the first that works."""
