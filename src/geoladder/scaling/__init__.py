"""Scaling laws: points in, fitted parameters with intervals and a plain verdict out.

Enters: any table with columns for sizes and an error. Leaves: `Fit`, a frozen dataclass. Imports nothing of data,
models or training, so that it fits any CSV.
"""
