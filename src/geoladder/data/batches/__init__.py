"""From usable tiles to training batches: chips cut once, or random crops read from tiles.

Enters: an index and its archive. Leaves: chips of stored DN, band statistics, and endless batches, each a function
of (spec, step). May import `data.index`, `data.archives`, `data.labels`, `study`.
"""
