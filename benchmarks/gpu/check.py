"""One run of the check: where it runs, how large its pieces are, how long it may take, and the rows it writes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from geoladder.data.batches.batch import PretrainBatch, block_masks, truth_of
from geoladder.data.labels.bands import BANDS
from geoladder.models.build import PretrainModel, build_from
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective

SEED = 0


class Row(NamedTuple):
    """One measured number."""

    item: str
    """What was measured: a kernel, a rung, a transfer."""
    setting: str
    """How: backend, number format, batch."""
    quantity: str
    value: float | None
    """None where nothing could be measured; `note` says why."""
    unit: str
    limit: str = ""
    """What the value must keep, in words; empty where it is a mere fact."""
    ok: bool | None = None
    note: str = ""


def at_most(limit: float, item: str, setting: str, quantity: str, value: float, unit: str) -> Row:
    """A row whose value must not be above `limit`; a value that is not a number fails."""
    return Row(item, setting, quantity, value, unit, f"at most {limit:g}", value <= limit)


def left_out(item: str, setting: str, why: str) -> Row:
    """A row that says why there is no number."""
    return Row(item, setting, "not measured", None, "", note=why)


@dataclass
class Check:
    """One run of the check.

    Attributes:
        device: `cuda` or `cpu`.
        dry: shapes as small as they can be, to show on any machine that everything runs.
        peak_tflops: of the card by its data sheet, bf16; NaN where it is not known.
        end_s: `time.monotonic()` after which nothing new is begun; each part gets a share of what is left.
    """

    device: str
    dry: bool
    peak_tflops: float = math.nan
    end_s: float = field(default=math.inf)

    def out_of_time(self) -> bool:
        """Whether nothing new should be begun."""
        return time.monotonic() > self.end_s

    def sized(self, full: int, dry: int) -> int:
        """A size of the real check, or of the dry one."""
        return dry if self.dry else full

    def sync(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object], repeats: int = 10) -> float:
        """Median seconds of a call, after two that are not timed."""
        times = []
        for _ in range(2 + self.sized(repeats, 1)):
            self.sync()
            start = time.perf_counter()
            run()
            self.sync()
            times.append(time.perf_counter() - start)
        return median(times[2:])

    def peak_bytes(self, run: Callable[[], object]) -> float:
        """Most memory allocated on the card during a call, over what was there before."""
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before


REDUCED: dict[str, tuple[str, int, dict]] = {
    "unet": ("unet", 32, {"width": 16, "depths": [1, 1, 2], "dense": 8}),
    "geoaware_unet": (
        "geoaware_unet",
        32,
        {"width": 16, "dims": [16, 16, 32, 32, 64], "depths": [1, 1, 1, 1, 1], "latent": 64, "image_px": 32},
    ),
    "vit_upernet": (
        "vit_upernet",
        32,
        {"width": 64, "depth": 4, "heads": 2, "patch": 4, "decoder": 16, "stem": 32},
    ),
    "vit_upernet paper": (
        "vit_upernet",
        32,
        {"layout": "paper", "heads": 2, "latent": 64, "stem_px": 32, "code_px": 32, "width": 128, "depth": 4}
        | {"patch": 4},
    ),
    "mamba_upernet": (
        "mamba_upernet",
        32,
        {"width": 64, "depth": 4, "patch": 4, "decoder": 16, "stem": 32, "d_state": 8, "expand": 1},
    ),
    "mamba_upernet paper": (
        "mamba_upernet",
        64,
        {"layout": "paper", "width": 64, "depth": 4, "patch": 16, "d_state": 16, "expand": 2},
    ),
    "mamba2d": (
        "mamba2d",
        32,
        {"width": 16, "dims": [16, 32, 64, 96], "depths": [1, 1, 1, 1], "d_state": 8, "expand": 2, "decoder": 32},
    ),
    "rs3mamba": (
        "rs3mamba",
        64,
        {"width": 24, "depths": [1, 1, 1, 1], "resnet": [1, 1, 1, 1], "image_px": 64, "latent": 64},
    ),
}  # fmt: skip
"""Every family and layout at a reduced width: architecture, side of its images, constructor arguments."""


def reduced_model(name: str) -> PretrainModel:
    """A family of `REDUCED` with pretraining heads, on the CPU, the same weights at every call."""
    architecture, _, kwargs = REDUCED[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return PretrainModel(build_from(architecture, kwargs))


def synthetic_batch(samples: int, px: int, seed: int = SEED) -> PretrainBatch:
    """Smooth random images (samples, 10, px, px) that can be learnt, under the study's default masks; on the CPU."""
    objective, generator = Objective(), torch.Generator().manual_seed(seed)
    coarse = torch.randn(samples, len(BANDS), 4, 4, generator=generator)
    pixels = nn.functional.interpolate(coarse, size=(px, px), mode="bicubic")
    masks = block_masks(samples, px, px, objective.mask_block_px, objective.mask_ratio, generator)
    lat_deg = torch.rand(samples, generator=generator, dtype=torch.float64).numpy() * 120 - 60
    places = Places(lat_deg, lat_deg * 2, (lat_deg > 0).astype("int64"))
    return PretrainBatch(pixels, masks, truth_of(objective, places))
