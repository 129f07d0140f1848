"""What the paper (arXiv 2506.14765) says of its models, and what counting the authors' own classes gave.

Both are kept, since they differ: the paper's sizes are labels ("200M" has 223.2 million parameters), and its
FLOPs come from a profiler that counts norms and activations besides. We are held to the counts: parameters to 0.1 %,
FLOPs to 1 %, both for ten bands of 128 x 128 pixels and without the selective scans, which that count left out.
"""

from typing import Literal, NamedTuple

PARAMETERS_TOLERANCE = 1e-3
GFLOPS_TOLERANCE = 1e-2
PX = 128
"""Side of the images the numbers below are for."""


class Published(NamedTuple):
    """One model: what the paper prints, and the numbers counted; None where nobody gave one.

    `label` has the paper's parameters, and GFLOP where printed. Parameters are of `part`, FLOPs of the whole model
    without scans.
    """

    label: str
    parameters: float | None
    gflops_fwd: float | None
    part: Literal["total", "encoder"] = "total"


PUBLISHED: dict[tuple[str, str], Published] = {
    ("geoaware_unet", "44M"): Published("44M, 5.87 GFLOP", 43.668e6, 4.995),
    ("geoaware_unet", "200M"): Published("200M, 82.23 GFLOP", 223.216e6, 76.92),
    ("vit_upernet", "100M"): Published("100M, 388.51 GFLOP", 112.30e6, 385.03),
    ("vit_upernet", "100M-23T"): Published("100M", 111.09e6, 384.99),
    ("vit_upernet", "300M"): Published("300M", 318.61e6, 844.47),
    ("vit_upernet", "P8-100M"): Published("100M", 97.80e6, 75.08),
    ("vit_upernet", "P16-100M"): Published("100M, 19.12 GFLOP", 99.13e6, 18.65),
    ("vit_upernet", "P16-300M"): Published("300M, 48.48 GFLOP", 320.08e6, 47.65),
    ("mamba_upernet", "P16-100M"): Published("100M, 12.68 GFLOP, 19.68 in a plot", 103.9e6, None),
    ("mamba2d", "41M"): Published("41M, 4.62 GFLOP", 31.98e6, None, "encoder"),
    ("rs3mamba", "168M"): Published("168M, 18.64 GFLOP", 168.02e6, 15.74),
}


def misses(architecture: str, size: str, parameters: dict[str, int], gflops_fwd: float) -> list[str]:
    """How a rung is out of tolerance, in words; empty where it is not, or nothing was published of it.

    `parameters` are as `count_parameters` returns them, of the model with pretraining heads; `gflops_fwd` is of a
    forward pass at `PX` pixels, without scans.
    """
    reference = PUBLISHED.get((architecture, size))
    if reference is None:
        return []
    part = reference.part
    pairs = (
        (f"{part} parameters", parameters[part], reference.parameters, PARAMETERS_TOLERANCE),
        ("forward GFLOP", gflops_fwd, reference.gflops_fwd, GFLOPS_TOLERANCE),
    )
    return [
        f"{architecture}-{size}: {name} {ours:,.6g} against {theirs:,.6g}, {ours / theirs - 1:+.2%} "
        f"(at most {tolerance:.1%})"
        for name, ours, theirs, tolerance in pairs
        if theirs is not None and abs(ours / theirs - 1) > tolerance
    ]
