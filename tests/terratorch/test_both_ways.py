"""TerraTorch's registry as an architecture, and an exported model in that registry; see test_parity."""

from pathlib import Path

import pytest
import torch
from beside import needs_terratorch, run_beside

from geoladder.data.batches.batch import BandStats, Moments
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.models.taps import tap_maps
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import named, rung
from geoladder.training.checkpoints import BACKBONE, save_model

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@needs_terratorch
def test_both_ways(tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("unet", "xs").eval()
    moments = Moments([0.3] * 10, [0.2] * 10)
    stats = BandStats(list(BANDS), moments, moments, 1, "none")
    card = {"architecture": "unet", "size": "xs", "model": rung("unet", "xs").kwargs, "bands": list(BANDS)}
    card |= {"transform": "sqrt", "statistics": stats.as_dict()}
    save_model({BACKBONE + name: value for name, value in backbone.state_dict().items()}, card, tmp_path)
    dn = torch.randint(0, 5000, (2, 10, 64, 64)).float()
    torch.save(dn, tmp_path / "images.pt")
    with torch.no_grad():
        torch.save(tap_maps(backbone, stats.standardise(dn / 10_000, "sqrt")), tmp_path / "maps.pt")
    run_beside("both_ways.py", tmp_path, pythonpath=ROOT / "src")


def test_any_name_is_a_size_and_a_missing_terratorch_is_said():
    assert named("terratorch-timm_resnet18.a1_in1k") == ("terratorch", "timm_resnet18.a1_in1k")
    assert ARCHITECTURES["terratorch"].sides("timm_resnet18").step == 1
    with pytest.raises(GeoladderError, match=r"needs the package terratorch.*tools/terratorch_env\.sh"):
        build_backbone("terratorch", "timm_resnet18")
