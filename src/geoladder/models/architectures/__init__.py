"""Entries of architectures, one a file: to add one, put a file there (docs/ladder.md).

The entry is `ARCHITECTURE = Architecture(...)`. The files import no torch, since the workflow reads them whenever it
draws its graph; only a file that holds the model's class as well has to.
"""
