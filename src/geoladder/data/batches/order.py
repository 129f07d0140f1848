"""The order in which chips and crops of tiles are seen: arithmetic on (seed, step), with no state to save.

Unusual: no list is shuffled. Position p of an epoch goes through a keyed Feistel network, a permutation computed by
arithmetic (Luby and Rackoff 1988; cycle walking after Black and Rogaway 2002), so any step of any epoch costs the
same and takes no memory, and a resumed run asks for the step it stopped at.

A tile is dear to read and gives several crops, so its crops must meet in one worker although no worker is named in
the order. An epoch is dealt to lanes, position q to lane q mod lanes. A lane reads its tiles one after the other and
mixes the last few of them; lanes read blocks of consecutive archive rows, and blocks come in the keyed permutation.
Whoever takes every R-th position takes whole lanes if R divides their number, and every sample exactly once for any
R.
"""

from math import gcd
from typing import NamedTuple

import numpy as np

from geoladder.errors import GeoladderError

ROUNDS = 8
MIXED_TILES = 4
"""Tiles a lane mixes at a time, and holds the crops of."""
BLOCK_TILES = 16
"""Consecutive archive rows a lane reads in a row, so that parts are not opened for one row each; fewer in archives
too small to have many blocks a lane."""
BLOCKS_PER_LANE = 16


def batch_at(step: int, batch: int, n_chips: int, seed: int) -> np.ndarray:
    """Chips of one optimiser step.

    Steps run through epoch after epoch without a gap: each chip comes exactly once per epoch, each epoch has its own
    order, and a batch may hold the end of one epoch and the start of the next.

    Returns:
        (batch,) int64 positions in 0..n_chips-1.

    Raises:
        GeoladderError: the training set is empty.
    """
    if n_chips < 1:
        raise GeoladderError("no training chips to draw from; loosen `cleaning` or add tiles to the corpus")
    stream = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epoch, position = np.divmod(stream, n_chips)
    return permuted(position, n_chips, seed, epoch)


def permuted(position: np.ndarray, n: int, seed: int, epoch: np.ndarray) -> np.ndarray:
    """Images of positions 0..n-1 under permutations keyed by (seed, epoch).

    Positions (K,) int64 are each of an epoch (K,). Seed and epochs are any non-negative integers.

    Returns:
        (K,) int64 in 0..n-1; within an epoch, distinct positions have distinct images.
    """
    half_bits = np.uint64(max(2, ((n - 1).bit_length() + 1) // 2))
    images = np.empty_like(position)
    for one_epoch in np.unique(epoch):
        keys = np.random.SeedSequence([seed, int(one_epoch)]).generate_state(ROUNDS, np.uint64)
        chosen = epoch == one_epoch
        image = _feistel(position[chosen].astype(np.uint64), half_bits, keys)
        # The network permutes 0..4^half_bits-1. Walking on from values >= n until one lands below permutes 0..n-1.
        while (outside := image >= n).any():
            image[outside] = _feistel(image[outside], half_bits, keys)
        images[chosen] = image
    return images


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


class CropNumbers(NamedTuple):
    """Samples of an order, one a position."""

    epoch: np.ndarray
    """(N,) int64."""
    tile: np.ndarray
    """(N,) int64 positions in the list of tiles."""
    crop: np.ndarray
    """(N,) int64 in 0..crops_per_tile-1."""


class StreamOrder:
    """Samples by position in an endless stream of epochs, each with every (tile, crop) once, in its own order.

    Attributes:
        lanes: in most of an epoch.
        samples: of one epoch.
    """

    def __init__(self, tiles: int, crops_per_tile: int, seed: int, shuffle_window: int) -> None:
        """Lay out an epoch: all lanes in blocks, all lanes in single tiles, the rest in fewer and fewer lanes.

        `shuffle_window` tiles are mixed at a time, over all workers of all ranks together.

        Raises:
            GeoladderError: there is no tile.
        """
        if tiles < 1:
            raise GeoladderError(
                "no training tiles to draw from; loosen `cleaning` or add tiles to the corpus"
            )
        self._tiles, self._crops, self._seed = tiles, crops_per_tile, seed
        self._mixed = min(MIXED_TILES, crops_per_tile, shuffle_window)
        self.lanes = shuffle_window // self._mixed
        self._block = max(1, min(BLOCK_TILES, tiles // (BLOCKS_PER_LANE * self.lanes)))
        self.samples = tiles * crops_per_tile
        sections, first = [], 0
        fewer = [lanes for lanes in range(self.lanes, 0, -1) if self.lanes % lanes == 0]
        for lanes, block in [(self.lanes, self._block), *((lanes, 1) for lanes in fewer)]:
            per_lane = (tiles - first) // (lanes * block) * block
            if per_lane:
                sections.append((first, lanes, per_lane, block))
                first += lanes * per_lane
        self._sections = np.array(sections, np.int64)
        """(S, 4): tiles of the epoch before a section, its lanes, tiles of each lane, tiles of a block."""

    def at(self, position: np.ndarray) -> CropNumbers:
        """Samples at positions (N,) int64 >= 0 of the stream.

        In period i, a lane takes one crop after the other, crop u from the tile it has read u mod `mixed` periods
        before; so it reads one new tile a period. Round a lane's end, that is a permutation of its samples. Lanes
        begin their periods one after the other, which spreads reading evenly over time.

        For example, a lane of tiles a, b, c, ..., z, with three crops a tile and two tiles mixed, gives crops
        a0 z1 a2 in its first period, b0 a1 b2 in its second, c0 b1 c2 in its third.
        """
        epoch, place = np.divmod(position, self.samples)
        section = np.searchsorted(self._sections[:, 0] * self._crops, place, side="right") - 1
        first, lanes, tiles, block = self._sections[section].T
        step, lane = np.divmod(place - first * self._crops, lanes)
        late = (step + lane * self._crops // lanes) % (tiles * self._crops)
        period, crop = np.divmod(late, self._crops)
        of_lane, in_block = np.divmod((period - crop % self._mixed) % tiles, block)
        return CropNumbers(epoch, self._row(first + (of_lane * lanes + lane) * block + in_block, epoch), crop)

    def tiles_held(self, readers: int) -> int:
        """Tiles whose crops each of so many equal readers must hold to read hardly any tile twice in an epoch.

        One more a lane than it mixes: a reader that forgets what it used longest ago keeps a finished tile a while.
        """
        _, lanes, tiles, _ = self._sections.T
        return int((lanes // np.gcd(readers, lanes) * np.minimum(self._mixed + 1, tiles)).max())

    def reads_per_tile(self, readers: int) -> int:
        """How many of so many equal readers read each tile: 1 if their number divides `lanes`."""
        return readers // gcd(readers, self.lanes)

    def _row(self, ordinal: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """Tile of an ordinal of an epoch: blocks permuted, their borders elsewhere each epoch."""
        blocks = self._tiles // self._block
        place, in_block = np.divmod(ordinal, self._block)
        whole = place < blocks
        row = ordinal.copy()
        row[whole] = permuted(place[whole], blocks, self._seed, epoch[whole]) * self._block + in_block[whole]
        epochs, which = np.unique(epoch, return_inverse=True)
        turns = [
            np.random.SeedSequence([self._seed, int(one), 1]).generate_state(1, np.uint64)[0] % self._tiles
            for one in epochs
        ]
        return (row + np.array(turns, np.int64)[which]) % self._tiles


def positions_of(
    step: int, batch: int, rank: int = 0, ranks: int = 1, worker: int = 0, workers: int = 1
) -> np.ndarray:
    """Positions in the stream that one worker of one rank reads for one optimiser step.

    Step and batch (samples of all ranks, a multiple of `ranks`) are the whole state of the stream.

    Returns:
        (N,) int64, ascending; over ranks and workers, the positions step*batch..(step+1)*batch-1, each once.
    """
    mine = np.arange(step * batch + rank, (step + 1) * batch, ranks, dtype=np.int64)
    return mine[mine // ranks % workers == worker]
