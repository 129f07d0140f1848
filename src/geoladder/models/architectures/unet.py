"""`unet`: a U-Net that works at half resolution. Rungs `44M` and `200M` have the authors' numbers of parameters."""

from geoladder.registry.architecture import Architecture, Kwargs, multiples


def dial(width: int, depths: tuple[int, ...] = (1, 1, 2)) -> Kwargs:
    """Constructor arguments by width w: w, 2w, 4w channels at 1/2, 1/4, 1/8 resolution.

    There are 1, 1, 2 encoder convolutions (most weights where pixels are few, so that parameters cost the least
    time), w/2 dense features (at least 4) and a summary of 4w.
    """
    return {"width": width, "depths": list(depths), "dense": max(4, width // 2)}


ARCHITECTURE = Architecture(
    name="unet",
    title="U-Net",
    colour="#0173b2",
    classes={"": "geoladder.models.unet:UNet"},
    rungs={
        "xs": dial(6),
        "s": dial(16),
        "m": dial(32),
        "44M": dial(176, (3, 3, 8)),
        "200M": dial(336, (3, 3, 12)),
    },
    base_width=16,
    pretrain_lr=0.008,
    finetune_lr=0.012,
    sides_px=multiples(8),
)
