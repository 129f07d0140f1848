"""Our encoders of released models: place codes, bands, shapes, and each part against a plain form of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models import prithvi, terramind
from geoladder.models.build import FinetuneModel, build_from
from geoladder.models.tap_unet import TapUNet
from geoladder.registry import ARCHITECTURES

TERRAMIND = ARCHITECTURES["terramind"].rungs["base"] | {"width": 32, "depth": 4, "heads": 2}
PRITHVI = ARCHITECTURES["prithvi"].rungs["300M-TL"] | {"width": 32, "depth": 4, "heads": 2}
SMALL = {
    "terramind": ("terramind", TERRAMIND),
    "terramind-paper": ("terramind", TERRAMIND | {"layout": "paper"}),
    "prithvi": ("prithvi", PRITHVI),
    "prithvi-600M": ("prithvi", PRITHVI | {"patch": 14, "resizes": 1, "layout": "paper"}),
}


@pytest.fixture(params=SMALL)
def backbone(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_from(*SMALL[request.param]).eval()


def images(batch=2, px=64):
    return torch.randn(batch, 10, px, px, generator=torch.Generator().manual_seed(1))


def test_dense_features_and_taps_have_their_shapes(backbone):
    features = backbone(images())
    assert features.dense.shape == (2, backbone.dense_channels, 64, 64)
    assert features.summary.shape == (2, 32)
    taps, _ = backbone.encoder(images(), None)
    side = 64 // 16 if backbone.stride_px > 1 else round(64 / 14)
    assert [tap.shape for tap in taps] == [(2, 32, side, side)] * 4


def test_every_weight_but_coordinates_learns(backbone):
    model = FinetuneModel(backbone, 1)
    model(images()).square().mean().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in still if "time_and_place" not in name} == set()


def test_hidden_pixels_do_not_leak(backbone):
    x, mask = images(), torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[..., :16, :32] = True
    other = torch.where(mask, x + 5, x)
    assert torch.equal(backbone(x, mask).dense, backbone(other, mask).dense)


def test_only_its_own_bands_count():
    model = build_from(*SMALL["prithvi"]).eval()
    x = images()
    for number, band in enumerate(BANDS):
        changed = x.clone()
        changed[:, number] += 1
        same = torch.equal(model.encoder(x)[0][0], model.encoder(changed)[0][0])
        assert same == (band not in ARCHITECTURES["prithvi"].input.bands)


def test_images_and_bands_that_do_not_fit_are_named():
    model = build_from(*SMALL["terramind"])
    with pytest.raises(GeoladderError, match="multiples of 32 pixels; got 64 x 60"):
        model(images()[..., :60])
    with pytest.raises(GeoladderError, match="choose among them; got 6"):
        build_from("prithvi", PRITHVI, bands=6)
    with pytest.raises(GeoladderError, match="multiple of 32 channels; got 48"):
        TapUNet(48)


def test_any_image_is_resized_to_whole_patches_where_the_rung_says_so():
    model = build_from(*SMALL["prithvi-600M"]).eval()
    x = images(px=128)
    whole = functional.interpolate(x, size=(126, 126), mode="bilinear", align_corners=False)
    for one, two in zip(model.encoder(x)[0], model.encoder(whole)[0], strict=True):
        assert torch.equal(one, two)
    assert model(x).dense.shape[2:] == (128, 128)


def test_coordinates_move_every_token_and_none_leave_them():
    model = build_from(*SMALL["prithvi"]).eval()
    places = torch.tensor([[2021.0, 153.0, 55.7, 12.6], [2018.0, 0.0, -33.9, 151.2]])
    without, given = model.encoder(images()), model.encoder(images(), None, places)
    assert not torch.equal(without[0][0], given[0][0])
    assert torch.equal(without[0][0], model.encoder(images(), None, None)[0][0])


def test_terraminds_code_of_place_is_of_the_row_first():
    code = terramind.place_code(14, 14, 32)
    frequency = 10_000.0 ** (-np.arange(8) / 8)
    assert code[3, 5] == pytest.approx(
        np.concatenate([f(i * frequency) for i in (3, 5) for f in (np.sin, np.cos)]), abs=1e-6
    )
    assert terramind.place_code(8, 8, 32).shape == (8, 8, 32)


def test_prithvis_code_of_place_is_of_the_column_first_and_ends_with_the_date():
    code = prithvi.place_code(16, 16, 32, 16)
    frequency = 10_000.0 ** (-np.arange(6) / 6)
    parts = [f(i * frequency) for i in (5, 3) for f in (np.sin, np.cos)]
    assert code[3, 5] == pytest.approx(np.concatenate([*parts, np.zeros(4), np.ones(4)]), abs=1e-6)


def test_patches_of_both_are_convolutions():
    x = torch.randn(1, 3, 32, 32)
    one = prithvi.PrithviPatches(3, 16, 16, coordinates=False)
    kernel = one.embed.weight.view(16, 3, 16, 16)
    plain = functional.conv2d(x, kernel, one.embed.bias, stride=16).permute(0, 2, 3, 1)
    place = torch.from_numpy(prithvi.place_code(2, 2, 16, 14))
    assert torch.allclose(one(x), plain + place, atol=1e-5)
    two = terramind.TerraMindPatches(3, 16)
    kernel = two.embed.weight.view(16, 16, 16, 3).permute(0, 3, 1, 2)
    plain = functional.conv2d(x, kernel, stride=16).permute(0, 2, 3, 1)
    place = torch.from_numpy(terramind.place_code(2, 2, 16))
    assert torch.allclose(two(x), plain + place + two.modality, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "size", "millions"),
    [
        ("terramind", "base", 87.313920),
        ("terramind", "large", 305.137664),
        ("prithvi", "300M", 303.886336),
        ("prithvi", "300M-TL", 303.886338),
        ("prithvi", "600M", 631.188480),
        ("prithvi", "600M-TL", 631.188482),
    ],
)
def test_encoders_have_the_released_number_of_parameters(architecture, size, millions):
    """As counted on TerraTorch 1.2.11's classes (tests/terratorch counts again)."""
    with torch.device("meta"):
        encoder = build_from(architecture, ARCHITECTURES[architecture].rungs[size]).encoder
    assert sum(p.numel() for p in encoder.parameters()) == round(1e6 * millions)
