"""Downstream tasks, one file each: `TASK = Density(...)` or `TASK = ClassMap(...)`; to add one, put a file here.

Imports no torch: studies are checked against these names before anything runs.
"""
