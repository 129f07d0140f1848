"""Chips as they are read back: by number in any order, and as batches of pretraining.

Chips lie in shards. A raw shard is a pair of `.npy` files, read by memory map. A compressed one is a `.b2frame` file:
each chunk is one whole chip, its four 10 m bands and then its six 20 m bands, so any chip is read by its offset in
the frame without touching its neighbours. Both formats give the same DN. `geoladder.data.batches.chips` writes them.

Batches are a pure function of (spec, step), so a resumed run needs no saved data state. Unusual: chips are not
flipped or turned. D, the unique pixels of a run, is an axis of the study, and augmentation would multiply it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from geoladder.data.batches.batch import (
    BandStats,
    DNBatch,
    PretrainBatch,
    assemble,
    seeded_masks,
    step_masks,
)
from geoladder.data.batches.chip_labels import ChipLabels
from geoladder.data.batches.order import batch_at
from geoladder.data.batches.tables import read_numbers, read_whole, rows_of, training_rows
from geoladder.data.labels.bands import BANDS_10M, BANDS_20M, BOA_OFFSET_DN
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.runs.digest import Seal, intact
from geoladder.runs.remake import remake
from geoladder.study.compute import accumulation
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec, StatsSpec

if TYPE_CHECKING:
    import blosc2

VALIDATION_SEED = 20_250_614
"""Draws the validation set and its masks, the same for every run of every study."""
VALIDATION_BATCH = 128
IN_MEMORY_BYTES = 2**30

ChipCodec = Literal["none", "blosc2"]


def chip_bytes(chip_px: int) -> int:
    """Bytes of one chip as uint16, uncompressed: 180,224 at 128 px."""
    return 2 * (len(BANDS_10M) * chip_px**2 + len(BANDS_20M) * (chip_px // 2) ** 2)


def _shapes(chip_px: int) -> list[tuple[int, ...]]:
    """Of a chip's bands of 10 m and of 20 m."""
    half = chip_px // 2
    return [(len(BANDS_10M), chip_px, chip_px), (len(BANDS_20M), half, half)]


def split_rows(rows: np.ndarray, chip_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Chips as rows (N, numbers of a chip) uint16 seen as (N, 4, P, P) and (N, 6, P/2, P/2), without a copy."""
    split, (fine, coarse) = len(BANDS_10M) * chip_px**2, _shapes(chip_px)
    return rows[:, :split].reshape(-1, *fine), rows[:, split:].reshape(-1, *coarse)


def shard_files(folder: Path, shard: int, codec: ChipCodec) -> list[Path]:
    """The files that make up one shard."""
    if codec == "blosc2":
        return [folder / f"chips-{shard:05d}.b2frame"]
    return [folder / f"{resolution}-{shard:05d}.npy" for resolution in ("10m", "20m")]


class NpyReader:
    """A finished uncompressed shard, read by memory map."""

    def __init__(self, files: list[Path]) -> None:
        """Open the two files of `shard_files`."""
        self._path, self._maps = files[0], list[np.ndarray]()
        for path in files:
            with _damage_named(path):
                self._maps.append(np.asarray(np.load(path, mmap_mode="r")))
        self.chip_px, shapes = int(self._maps[0].shape[-1]), [stored.shape for stored in self._maps]
        if [shape[1:] for shape in shapes] != _shapes(self.chip_px) or shapes[0][0] != shapes[1][0]:
            raise _shard_error(files[0], f"its two files have the shapes {shapes[0]} and {shapes[1]}")

    def read(self, slots: list[int], places: list[int], rows: np.ndarray) -> None:
        """Copy the chips at `slots` to `rows` (N, numbers of a chip) uint16, at positions `places`."""
        for stored, out in zip(self._maps, split_rows(rows, self.chip_px), strict=True):
            # Chip by chip: indexing with arrays would copy everything twice.
            with _damage_named(self._path):
                for place, slot in zip(places, slots, strict=True):
                    out[place] = stored[slot]


class Blosc2Reader:
    """A finished compressed shard, its frame read by memory map."""

    def __init__(self, files: list[Path]) -> None:
        """Open the one file of `shard_files`."""
        self._path, codec = files[0], import_blosc2()
        with _damage_named(self._path):
            self._frame: blosc2.SChunk = codec.open(
                str(self._path), mode="r", mmap_mode="r", dparams=codec.DParams(nthreads=1)
            )
        self.chip_px = int(self._frame.meta["geoladder"]["chip_px"])

    def read(self, slots: list[int], places: list[int], rows: np.ndarray) -> None:
        """Decompress the chips at `slots` to `rows` (N, numbers of a chip) uint16, at positions `places`."""
        for place, slot in zip(places, slots, strict=True):
            with _damage_named(self._path, f"chip {slot}: "):
                self._frame.decompress_chunk(slot, dst=rows[place])


@contextmanager
def _damage_named(path: Path, which: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, RuntimeError, IndexError) as problem:
        raise _shard_error(path, f"{which}{problem}") from None


def _shard_error(path: Path, problem: str) -> GeoladderError:
    return GeoladderError(f"shard {path} cannot be read ({problem}); {remake(path)}")


def import_blosc2() -> Any:  # noqa: ANN401 - a module without type stubs
    """The module blosc2; GeoladderError where it is not installed."""
    try:
        import blosc2
    except ModuleNotFoundError:
        raise GeoladderError(
            "compressed chips need blosc2, which is not installed; pip install 'geoladder[codec]', or set "
            "cleaning.chip_codec: none and cut the chips again"
        ) from None
    return blosc2


class ChipStore:
    """A folder of chips. Only three narrow columns of its manifest stay in memory: millions open in a second."""

    def __init__(self, folder: Path, pixels: str | None = None) -> None:
        """Open a folder; of the chips with the fingerprint `pixels`, if it is given (see `ChipsSpec.pixels`).

        Raises:
            GeoladderError: the folder has no manifest, a damaged one, or one of other chips.
        """
        self.folder, self.manifest = Path(folder), Path(folder) / "manifest.parquet"
        if not self.manifest.is_file():
            raise GeoladderError(
                f"no chips in {self.folder} (manifest.parquet is missing); run `geoladder chips`"
            )
        self._shard, self._slot = (
            read_whole(intact(self.manifest, pixels), name, np.int32) for name in ("shard", "slot")
        )
        self._offset_dn = read_whole(self.manifest, "offset_dn", np.int16, BOA_OFFSET_DN)
        self._codec: ChipCodec = "blosc2" if next(self.folder.glob("chips-*.b2frame"), None) else "none"
        self._readers: dict[int, NpyReader | Blosc2Reader] = {}

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._shard)

    @cached_property
    def chip_px(self) -> int:
        """Side of a chip in 10 m pixels."""
        return self._reader(int(self._shard[0])).chip_px

    def read(self, chips: np.ndarray) -> DNBatch:
        """Read chips by number.

        Args:
            chips: (N,) int64 values of the manifest's `chip`, any order, repeats allowed.

        Raises:
            GeoladderError: a shard is missing or damaged.
        """
        rows = np.empty((len(chips), chip_bytes(self.chip_px) // 2), np.uint16)
        shard, slot = self._shard[chips], self._slot[chips]
        # Ascending within a shard, so that a cold read moves over the disk in one direction.
        order = np.lexsort((slot, shard))
        for places in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1):
            if places.size:
                self._reader(int(shard[places[0]])).read(slot[places].tolist(), places.tolist(), rows)
        return DNBatch(*split_rows(rows, self.chip_px), self._offset_dn[chips].astype(np.int64))

    def _reader(self, shard: int) -> NpyReader | Blosc2Reader:
        if shard not in self._readers:
            reader = Blosc2Reader if self._codec == "blosc2" else NpyReader
            files = shard_files(self.folder, shard, self._codec)
            self._readers[shard] = reader([intact(path, whole=True) for path in files])
        return self._readers[shard]


class Chips:
    """Some chips of a store: a `Source` of training batches, or a validation set.

    Small sets (below 1 GB) stay in memory as stored; larger ones are read from disk batch by batch.

    Attributes:
        side_px: side of a chip.
    """

    def __init__(
        self,
        store: ChipStore,
        rows: np.ndarray,
        stats: BandStats,
        spec: PretrainSpec,
        labels: Path | None = None,
    ) -> None:
        """Take the chips at positions `rows` of the store's manifest, as a run wants them.

        `labels` is the folder of their labels. Raises GeoladderError where the run learns labels and has none.
        """
        self._labels = ChipLabels(labels, spec, (len(store), store.chip_px))
        self._store, self._rows, self._stats, self._spec = store, rows, stats, spec
        lat_deg, lon_deg, koppen = (
            read_numbers(store.manifest, name)[rows] for name in ("lat_deg", "lon_deg", "koppen")
        )
        self._places = Places(lat_deg, lon_deg, koppen.astype(np.int64))
        self.side_px = store.chip_px
        small = len(rows) * chip_bytes(self.side_px) < IN_MEMORY_BYTES
        self._in_memory = store.read(rows) if small else None

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._rows)

    def places(self, positions: np.ndarray) -> Places:
        """What is known of the chips at `positions` (N,) in this set."""
        return Places(*(values[positions] for values in self._places))

    def batch(self, positions: np.ndarray, mask: torch.Tensor) -> PretrainBatch:
        """Chips at `positions` (B,) in this set under `mask` (B, 1, H, W)."""
        if self._in_memory is None:
            dn = self._store.read(self._rows[positions])
        else:
            dn = DNBatch(*(part[positions] for part in self._in_memory))
        batch = assemble(self._spec, self._stats, dn, self.places(positions), mask)
        return batch._replace(targets=batch.targets | self._labels.read(self._rows[positions]))

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """As `Source.batches`."""
        accumulation(self._spec.batch, ranks, None)  # refuses ranks that cannot share a batch evenly
        for step in count(first_step):
            positions = batch_at(step, self._spec.batch, len(self), self._spec.seed)[rank::ranks]
            yield self.batch(positions, step_masks(self._spec, self.side_px, step)[rank::ranks])

    def validation_batches(self, objective: Objective, positions: np.ndarray) -> Iterator[PretrainBatch]:
        """Chips at `positions` in this set in order, each with a mask that never changes."""
        masks = seeded_masks(len(self), self.side_px, objective, [VALIDATION_SEED])
        for start in range(0, positions.size, VALIDATION_BATCH):
            part = positions[start : start + VALIDATION_BATCH]
            yield self.batch(part, masks[torch.from_numpy(part)])

    def priors(self) -> dict[str, list[float]]:
        """As `Source.priors`."""
        return self._labels.priors(self._rows)

    def facts(self, samples: int) -> dict[str, int]:
        """What a run on these chips can see: chips do not overlap, so their pixels are unique."""
        return {"unique_chips": len(self), "unique_pixels": len(self) * self.side_px**2}


def training_chips(spec: PretrainSpec, folder: Path, stats: BandStats, labels: Path | None = None) -> Chips:
    """Training chips of a cell, maybe with labels: the nested fraction that its seed draws.

    Raises:
        GeoladderError: no chip is left, or the chips are others than the spec's.
    """
    store = ChipStore(folder, spec.chips)
    rows, cells = training_rows(store.manifest, spec.fraction, spec.seed)
    if not rows.size:
        raise GeoladderError(
            f"{spec.corpus}@{spec.fraction} has no training chip: 0 of {cells} grid cells in {folder} are "
            f"in the fraction at seed {spec.seed}; take a larger fraction or more tiles"
        )
    return Chips(store, rows, stats, spec, labels)


def validation_chips(spec: PretrainSpec, folder: Path, stats: BandStats, labels: Path | None = None) -> Chips:
    """The validation set, the same for every cell and seed; maybe with labels.

    Raises:
        GeoladderError: the folder holds no validation chip, or not the chips that the spec's statistics are of.
    """
    store = ChipStore(folder)
    seal, split = Seal.read(store.manifest), "train" if spec.tiles is None else "val"
    if seal and seal.made_from and StatsSpec(chips=seal.made_from, split=split).fingerprint != spec.stats:
        raise GeoladderError(
            f"{store.manifest} is of another study or older: the statistics of its chips are not those with the "
            f"fingerprint {spec.stats}; {remake(store.manifest)}"
        )
    rows = rows_of(store.manifest, "val")
    if not rows.size:
        raise GeoladderError(f"{folder} has no validation chip; raise validation.share or add tiles")
    if rows.size > spec.validation_chips:
        rng = np.random.default_rng(VALIDATION_SEED)
        rows = np.sort(rng.choice(rows, spec.validation_chips, replace=False))
    return Chips(store, rows, stats, spec, labels)
