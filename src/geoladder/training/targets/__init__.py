"""Pretext targets, one file each: what pretraining predicts of a whole chip besides its pixels.

Enters: places of chips. Leaves: `TARGET`, an entry of `geoladder.registry.target`. May import `data.labels` and
`registry`; imports torch inside functions only. To add a target, put a file here.
"""
