"""Layouts of archives: one file each, all behind `tile.TileSource`.

Enters: a folder of MajorTOM parquet, extracted trees, FastTOM or PhilEO Globe. Leaves: tiles of stored DN with their
metadata. May import `data.labels`.
"""
