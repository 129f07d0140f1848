"""Which tiles of an archive are usable, which are selected, and which are held out for validation.

Enters: an opened archive. Leaves: index.parquet, and a ledger that counts what was dropped and why. May import
`data.archives`, `data.labels`, `study`.
"""
