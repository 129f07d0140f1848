"""The order in which chips are seen: a pure function of (step, seed), with no state to save.

Unusual: no list is shuffled. Position p of an epoch goes through a keyed Feistel network, a permutation computed by
arithmetic (Luby and Rackoff 1988; cycle walking after Black and Rogaway 2002), so any step of any epoch costs the
same and takes no memory, and a resumed run asks for the step it stopped at.
"""

import numpy as np

from geoladder.errors import GeoladderError

ROUNDS = 8


def batch_at(step: int, batch: int, n_chips: int, seed: int) -> np.ndarray:
    """Chips of one optimiser step.

    Steps run through epoch after epoch without a gap: each chip comes exactly once per epoch, each epoch has its own
    order, and a batch may hold the end of one epoch and the start of the next.

    Args:
        step: 0, 1, 2, ...
        batch: chips per step.
        n_chips: size of the training set.
        seed: any non-negative integer.

    Returns:
        (batch,) int64 positions in 0..n_chips-1.

    Raises:
        GeoladderError: the training set is empty.
    """
    if n_chips < 1:
        raise GeoladderError("no training chips to draw from; loosen `cleaning` or add tiles to the corpus")
    stream = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epoch, position = np.divmod(stream, n_chips)
    chips = np.empty(batch, np.int64)
    for one_epoch in np.unique(epoch):
        chosen = epoch == one_epoch
        chips[chosen] = permuted(position[chosen], n_chips, seed, int(one_epoch))
    return chips


def permuted(position: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Image of positions 0..n-1 under the permutation keyed by (seed, epoch).

    Args:
        position: (K,) int64 in 0..n-1.
        n: size of the permuted set.
        seed: any non-negative integer.
        epoch: any non-negative integer.

    Returns:
        (K,) int64 in 0..n-1; distinct positions have distinct images.
    """
    keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)
    half_bits = np.uint64(max(2, ((n - 1).bit_length() + 1) // 2))
    image = _feistel(position.astype(np.uint64), half_bits, keys)
    # The network permutes 0..4^half_bits-1. Walking on from values >= n until one lands below n permutes 0..n-1.
    while (outside := image >= n).any():
        image[outside] = _feistel(image[outside], half_bits, keys)
    return image.astype(np.int64)


def _feistel(value: np.ndarray, half_bits: np.uint64, keys: np.ndarray) -> np.ndarray:
    low = np.uint64((1 << int(half_bits)) - 1)
    left, right = value >> half_bits, value & low
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & low)
    return (left << half_bits) | right


def _mix(value: np.ndarray) -> np.ndarray:
    """Finaliser of SplitMix64 (Steele et al. 2014): every output bit depends on every input bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
