"""`rs3mamba`: a ResNet and a Mamba encoder side by side, locked to 128 x 128 pixels by its latent vector.

It exists at paper size only, where nothing was tuned: its rates are what the authors' come to on 32 devices.
"""

from geoladder.registry.architecture import Architecture, Kwargs

IMAGE_PX = 128
SIZE_168M: Kwargs = {"width": 96, "depths": [2, 2, 9, 2], "resnet": [3, 4, 6, 3], "image_px": IMAGE_PX}

ARCHITECTURE = Architecture(
    name="rs3mamba",
    title="RS3Mamba",
    colour="#d55e00",
    classes={
        "": "geoladder.models.rs3mamba:RS3Mamba",
        "authors": "geoladder.models.rs3mamba:AuthorsRS3Mamba",
    },
    rungs={
        "168M": SIZE_168M,
        "168M-authors": SIZE_168M | {"layout": "authors"},
    },
    base_width=96,
    pretrain_lr=0.0003,
    finetune_lr=0.0005,
    sides_px=range(IMAGE_PX, IMAGE_PX + 1),
)
