"""Parameters of a model by part.

The affine weights of norms are told apart, and of these the maps with a weight per channel and pixel: they
are more than half of the authors' "44M" U-Net, so a law in the number of parameters must say which it counts.
"""

from torch import nn

from geoladder.models.backbone import Backbone, module

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
EMBEDDINGS = ("cls", "mask_token", "position")
PARTS = ("total", "encoder", "decoder", "heads", "norm", "norm_maps", "embeddings")


def count_parameters(model: nn.Module | Backbone) -> dict[str, int]:
    """Parameters of a backbone, or of a model with heads.

    Returns:
        `total`, which is the sum of `encoder`, `decoder` and `heads`; and of the total, `norm` (weights and biases
        of norms), of that `norm_maps` (of norms over channels and pixels), and `embeddings` (class and mask tokens,
        stored place codes).
    """
    counts = dict.fromkeys(PARTS, 0)
    whole = module(model)  # type: ignore[arg-type]
    norms = {id(p) for layer in whole.modules() if isinstance(layer, NORMS) for p in layer.parameters()}
    for name, parameter in whole.named_parameters():
        path = name.removeprefix("backbone.").split(".")
        part = path[0] if path[0] in ("encoder", "decoder") else "heads"
        size = parameter.numel()
        counts["total"] += size
        counts[part] += size
        counts["norm"] += size * (id(parameter) in norms)
        counts["norm_maps"] += size * (id(parameter) in norms and parameter.ndim > 1)
        counts["embeddings"] += size * (path[-1] in EMBEDDINGS)
    return counts
