"""Architectures and the ladder of their sizes.

What enters: standardised reflectance (B, 10, H, W) and, in pretraining, a mask of hidden pixels. What leaves: dense
features at full resolution and one summary vector per image, and from heads on them the outputs of pretraining and
fine-tuning. `registry.ladder` names every architecture and size, without torch; `build` makes models.

Nothing here imports `geoladder.data` or `geoladder.training`.
"""
