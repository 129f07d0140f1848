"""Remote archives: from an address and a selection to a local folder in the very layout the readers know.

Enters: a MajorTOM-format archive behind HTTP. Leaves: `metadata.parquet` of the selection, the parts it needs, a
manifest with sizes and checksums. Imports the reader and the split, never training.
"""
