"""Parameters by part, and FLOPs of a forward pass, both without running the model.

Unusual: FLOPs are counted on the `meta` device with attention taken apart into matrix products, because torch 2.13
counts fused attention on a CPU as 0 (pytorch issue 195460). A selective scan counts by the formula registered beside
its kernel. A multiplication and an addition are 2 FLOPs; elementwise work and norms are not counted.
"""

import copy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from geoladder.models.backbone import Backbone, module

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
EMBEDDINGS = ("cls", "mask_token")


def count_parameters(model: nn.Module | Backbone) -> dict[str, int]:
    """Parameters of a backbone, or of a model with heads.

    Returns:
        `total`, which is the sum of `encoder`, `decoder` and `heads`; and of the total, `norm` (weights and biases
        of norms) and `embeddings` (class and mask tokens).
    """
    counts = dict.fromkeys(("total", "encoder", "decoder", "heads", "norm", "embeddings"), 0)
    whole = module(model)  # type: ignore[arg-type]
    norms = {id(p) for layer in whole.modules() if isinstance(layer, NORMS) for p in layer.parameters()}
    for name, parameter in whole.named_parameters():
        path = name.removeprefix("backbone.").split(".")
        part = path[0] if path[0] in ("encoder", "decoder") else "heads"
        size = parameter.numel()
        counts["total"] += size
        counts[part] += size
        counts["norm"] += size * (id(parameter) in norms)
        counts["embeddings"] += size * (path[-1] in EMBEDDINGS)
    return counts


def gflops_fwd(model: nn.Module | Backbone, px: int, bands: int = 10) -> float:
    """GFLOP (1e9) of a forward pass of one image of `px` x `px` pixels. The model itself is left as it is.

    Raises:
        GeoladderError: the model cannot take that size.
    """
    twin = copy.deepcopy(module(model)).to("meta")  # type: ignore[arg-type]
    image = torch.empty(1, bands, px, px, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        twin(image)
    return counter.get_total_flops() / 1e9
