"""Smooth random fields on a pixel grid.

Wavelengths are in pixels, never in shares of the tile, so a larger tile shows more of the same world. A field is a
grid of normal numbers, enlarged by Pillow's bicubic resize, which costs a third of a millisecond for 192 px.
"""

import math

import numpy as np
from PIL import Image

_BICUBIC_GAIN = 1.35  # makes up for the variance that interpolation takes away


def smooth(rng: np.random.Generator, side: int, wavelength_px: float) -> np.ndarray:
    """Field of one scale, (side, side) float32, mean 0, standard deviation about 1."""
    span = side / wavelength_px
    count = math.ceil(span) + 4
    grid = rng.standard_normal((count, count), dtype=np.float32)
    row, column = 1.5 + 0.9 * rng.random(2)
    box = (column, row, column + span, row + span)
    image = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image) * np.float32(_BICUBIC_GAIN)


def fractal(
    rng: np.random.Generator, side: int, wavelength_px: float, octaves: int = 4, gain: float = 0.5
) -> np.ndarray:
    """Sum of `octaves` fields, each of half the wavelength and `gain` times the height of the one before.

    Returns:
        (side, side) float32, mean about 0, standard deviation about 1.
    """
    total = smooth(rng, side, wavelength_px)
    norm = 1.0
    for octave in range(1, octaves):
        if wavelength_px / 2**octave < 1.5:
            break
        total = total + np.float32(gain**octave) * smooth(rng, side, wavelength_px / 2**octave)
        norm += gain ** (2 * octave)
    return total / np.float32(math.sqrt(norm))


def grain(rng: np.random.Generator, side: int) -> np.ndarray:
    """White noise with a little correlation between neighbours, (side, side) float32, standard deviation about 1."""
    white = rng.standard_normal((side + 1, side + 1), dtype=np.float32)
    return 0.85 * white[:-1, :-1] + 0.37 * (white[1:, :-1] + white[:-1, 1:])


def coordinates(side: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates turned by `angle` (radians) about the middle: two (side, side) float32 arrays."""
    axis = np.arange(side, dtype=np.float32) - np.float32(side / 2)
    row, column = axis[:, None], axis[None, :]
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return column * cos + row * sin, row * cos - column * sin
