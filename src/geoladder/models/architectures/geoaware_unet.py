"""`geoaware_unet`: the authors' U-Net (arXiv 2506.14765), locked to 128 x 128 pixels by its norms.

Channels are w, w, 2w, 2w, 4w by stage; about 3w in the middle at 200M.
It exists at paper size only, where nothing was tuned: its rates are what the authors' come to on 32 devices.
"""

from geoladder.registry.architecture import Architecture, Kwargs

IMAGE_PX = 128
LOCK: Kwargs = {"latent": 1024, "image_px": IMAGE_PX}

ARCHITECTURE = Architecture(
    name="geoaware_unet",
    title="Geo-Aware U-Net",
    colour="#56b4e9",
    classes={"": "geoladder.models.geoaware_unet:GeoAwareUNet"},
    rungs={
        "44M": Kwargs(width=32, dims=[32, 32, 64, 64, 128], depths=[3, 3, 4, 4, 5]) | LOCK,
        "200M": Kwargs(width=86, dims=[86, 86, 256, 256, 512], depths=[3, 3, 12, 12, 5]) | LOCK,
    },
    base_width=32,
    pretrain_lr=0.0005,
    finetune_lr=0.001,
    sides_px=range(IMAGE_PX, IMAGE_PX + 1),
)
