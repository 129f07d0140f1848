"""Files of chips: raw `.npy` pairs read by memory map, or compressed `.b2frame` files read chunk by chunk.

One compressed chunk is one whole chip, its four 10 m bands and then its six 20 m bands at native resolution, so any
chip is read by its offset in the frame without touching its neighbours. Both formats give the same DN.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geoladder.data.labels.bands import BANDS_10M, BANDS_20M
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

if TYPE_CHECKING:
    import blosc2

SHARD_BYTES = 256 * 2**20
"""Of one shard on the disk: few files for a cluster's metadata servers, and little to lose when a job is killed."""

ChipCodec = Literal["none", "blosc2"]


def chip_shapes(chip_px: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Shapes of a chip's 10 m and 20 m bands: (4, P, P) and (6, P/2, P/2)."""
    half = chip_px // 2
    return (len(BANDS_10M), chip_px, chip_px), (len(BANDS_20M), half, half)


def chip_bytes(chip_px: int) -> int:
    """Bytes of one chip as uint16, uncompressed: 180,224 at 128 px."""
    return sum(2 * int(np.prod(shape)) for shape in chip_shapes(chip_px))


def shard_files(folder: Path, shard: int, codec: ChipCodec) -> list[Path]:
    """The files that make up one shard."""
    if codec == "blosc2":
        return [folder / f"chips-{shard:05d}.b2frame"]
    return [folder / f"{resolution}-{shard:05d}.npy" for resolution in ("10m", "20m")]


def all_shard_files(folder: Path) -> list[Path]:
    """Every shard file in a folder, of either format."""
    return sorted([*folder.glob("[12]0m-*.npy"), *folder.glob("chips-*.b2frame")])


class NpyShard:
    """An uncompressed shard being filled, in memory."""

    def __init__(self, chip_px: int) -> None:
        """Begin an empty shard of at most `SHARD_BYTES`."""
        self._capacity = max(1, SHARD_BYTES // chip_bytes(chip_px))
        self._dn10, self._dn20 = (
            np.empty((self._capacity, *shape), np.uint16) for shape in chip_shapes(chip_px)
        )
        self.chips = 0

    @property
    def full(self) -> bool:
        """Whether no further chip fits."""
        return self.chips >= self._capacity

    def add(self, dn10: np.ndarray, dn20: np.ndarray) -> int:
        """Take as many of the chips (N, 4, P, P), (N, 6, P/2, P/2) as fit; return how many."""
        taken = min(len(dn10), self._capacity - self.chips)
        free = slice(self.chips, self.chips + taken)
        self._dn10[free], self._dn20[free] = dn10[:taken], dn20[:taken]
        self.chips += taken
        return taken

    def write(self, files: list[Path]) -> None:
        """Write the two files of `shard_files`, each whole or not at all."""
        for path, chips in zip(files, (self._dn10, self._dn20), strict=True):
            with atomic_path(path) as temporary:
                np.save(temporary, chips[: self.chips])


class Blosc2Shard:
    """A compressed shard being filled, in memory: zstd level 1 after bitshuffle.

    One block a chip, its byte streams compressed apart (split), was both the smallest and the fastest of the block
    sizes and split modes tried on real crops: 114.5 KiB a chip of 128 px, against 116.7 KiB unsplit.
    """

    def __init__(self, chip_px: int) -> None:
        """Begin an empty shard."""
        codec = _blosc2()
        size = chip_bytes(chip_px)
        self._frame = codec.SChunk(
            chunksize=size,
            contiguous=True,
            cparams={
                "codec": codec.Codec.ZSTD,
                "clevel": 1,
                "filters": [codec.Filter.BITSHUFFLE],
                "splitmode": codec.SplitMode.ALWAYS_SPLIT,
                "typesize": 2,
                "blocksize": size,
                "nthreads": 1,
            },
            dparams={"nthreads": 1},
            meta={"geoladder": {"chip_px": chip_px}},
        )
        self._row = np.empty(size // 2, np.uint16)
        self.chips = 0

    @property
    def full(self) -> bool:
        """Whether the compressed chips reach `SHARD_BYTES`."""
        return bool(self._frame.cbytes >= SHARD_BYTES)

    def add(self, dn10: np.ndarray, dn20: np.ndarray) -> int:
        """Compress chips (N, 4, P, P), (N, 6, P/2, P/2) until the shard is full; return how many were taken."""
        taken = 0
        for fine, coarse in zip(dn10, dn20, strict=True):
            if self.full:
                break
            self._row[: fine.size], self._row[fine.size :] = fine.ravel(), coarse.ravel()
            self._frame.append_data(self._row)
            taken += 1
        self.chips += taken
        return taken

    def write(self, files: list[Path]) -> None:
        """Write the one file of `shard_files`, whole or not at all."""
        with atomic_path(files[0]) as temporary:
            temporary.write_bytes(self._frame.to_cframe())


def split_rows(rows: np.ndarray, chip_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Chips as rows (N, numbers of a chip) uint16 seen as (N, 4, P, P) and (N, 6, P/2, P/2), without a copy."""
    fine, coarse = chip_shapes(chip_px)
    split = int(np.prod(fine))
    return rows[:, :split].reshape(-1, *fine), rows[:, split:].reshape(-1, *coarse)


def new_shard(codec: ChipCodec, chip_px: int) -> NpyShard | Blosc2Shard:
    """An empty shard of a format."""
    return Blosc2Shard(chip_px) if codec == "blosc2" else NpyShard(chip_px)


class NpyShards:
    """Reads a folder's uncompressed shards."""

    def __init__(self, folder: Path) -> None:
        """Open nothing yet."""
        self._folder = folder
        self._maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def chip_px(self, shard: int) -> int:
        """Side of the chips of a shard in 10 m pixels."""
        return int(self._open(shard)[0].shape[-1])

    def gather(self, shard: int, slots: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        """Copy the chips at `slots` of one shard to `rows` (N, numbers of a chip) uint16, at positions `places`."""
        maps = self._open(shard)
        for stored, out in zip(maps, split_rows(rows, self.chip_px(shard)), strict=True):
            # Chip by chip: indexing with arrays would copy everything twice.
            for place, slot in zip(places.tolist(), slots.tolist(), strict=True):
                out[place] = stored[slot]

    def _open(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        if shard not in self._maps:
            fine, coarse = (_map(path) for path in shard_files(self._folder, shard, "none"))
            self._maps[shard] = fine, coarse
        return self._maps[shard]


class Blosc2Shards:
    """Reads a folder's compressed shards, by memory map."""

    def __init__(self, folder: Path) -> None:
        """Open nothing yet."""
        self._folder = folder
        self._frames: dict[int, blosc2.SChunk] = {}

    def chip_px(self, shard: int) -> int:
        """Side of the chips of a shard in 10 m pixels."""
        return int(self._open(shard).meta["geoladder"]["chip_px"])

    def gather(self, shard: int, slots: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        """Decompress the chips at `slots` of one shard to `rows` (N, numbers of a chip) uint16, at `places`."""
        frame = self._open(shard)
        for place, slot in zip(places.tolist(), slots.tolist(), strict=True):
            try:
                frame.decompress_chunk(slot, dst=rows[place])
            except (RuntimeError, ValueError, IndexError) as problem:
                (path,) = shard_files(self._folder, shard, "blosc2")
                raise _damaged(path, f"chip {slot}: {problem}") from None

    def _open(self, shard: int) -> "blosc2.SChunk":
        if shard not in self._frames:
            (path,) = shard_files(self._folder, shard, "blosc2")
            codec = _blosc2()
            try:
                self._frames[shard] = codec.open(
                    str(path), mode="r", mmap_mode="r", dparams=codec.DParams(nthreads=1)
                )
            except (OSError, RuntimeError, ValueError) as problem:
                raise _damaged(path, problem) from None
        return self._frames[shard]


def open_shards(folder: Path) -> NpyShards | Blosc2Shards:
    """Reader of a folder's shards, by the format found there."""
    return Blosc2Shards(folder) if next(folder.glob("chips-*.b2frame"), None) else NpyShards(folder)


def _map(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as problem:
        raise _damaged(path, problem) from None


def _damaged(path: Path, problem: object) -> GeoladderError:
    return GeoladderError(f"shard {path} cannot be read ({problem}); delete {path.parent} and run again")


def _blosc2() -> Any:  # noqa: ANN401 - a module without type stubs
    try:
        import blosc2
    except ModuleNotFoundError:
        raise GeoladderError(
            "compressed chips need blosc2, which is not installed; pip install 'geoladder[codec]', or set "
            "cleaning.chip_codec: none and cut the chips again"
        ) from None
    return blosc2
