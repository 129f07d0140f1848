"""Two real Sentinel-2 tiles all the way: index, chips, statistics, ten steps of pretraining, an embedding of each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoladder.data.chips import ChipStore, write_chips
from geoladder.data.index import build_index
from geoladder.data.split import is_validation
from geoladder.data.stats import BandStats, write_stats
from geoladder.load import load_study
from geoladder.models.ladder import build_backbone
from geoladder.specs import ChipsSpec, FinetuneSpec, IndexSpec, PretrainSpec, StatsSpec
from geoladder.study import Arm, Cell, Point
from geoladder.training.checkpoints import load_backbone
from geoladder.training.pretrain import pretrain
from geoladder.training.stream import training_chips, validation_chips

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT.parent / "shared" / "samples" / "majortom"
CELLS = ("433D_629L", "637U_59R")
"""Chile and Denmark, the first with the offset of baseline 04.00 and the second without."""
SIZE = "xs"
STEPS = 10


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "config.yaml")


@pytest.fixture(scope="module")
def prepared(study, tmp_path_factory):
    """A folder with chips/ and stats.json: one place to train on, the other to validate on."""
    if not SAMPLES.is_dir():
        pytest.skip(f"real MajorTOM samples are not at {SAMPLES}")
    folder = tmp_path_factory.mktemp("real")
    # Which cell a share holds out follows from the hash of its name; this share holds out one of the two.
    share = next(k / 100 for k in range(1, 100) if sum(is_validation(cell, k / 100) for cell in CELLS) == 1)
    index_spec = IndexSpec.of(study, "majortom").model_copy(
        update={"validation_share": share, "bench_buffer_km": 0.0, "max_cloud_percent": 100.0}
    )
    index = folder / "index.parquet"
    build_index(index_spec, SAMPLES, folder / "no_bench.parquet", index, folder / "ledger.csv")
    write_chips(ChipsSpec.of(study, "majortom"), SAMPLES, index, folder / "chips")
    write_stats(StatsSpec.of(study), folder / "chips", folder / "stats.json")
    return folder


@pytest.fixture(scope="module", params=["unet", "vit_upernet", "mamba_upernet"])
def trained(request, study, prepared, tmp_path_factory):
    """Spec and result folder of a run of ten steps."""
    torch.set_num_threads(1)
    spec = PretrainSpec.of(study, Cell("majortom", request.param, SIZE, 0))
    spec = spec.model_copy(update={"samples": STEPS * spec.batch})
    out = tmp_path_factory.mktemp(request.param)
    chips = prepared / "chips"
    pretrain(spec, chips, chips, prepared / "stats.json", out)
    return spec, out


def test_statistics_are_of_reflectance(prepared):
    stats = BandStats.load(prepared / "stats.json")
    assert all(0.005 < mean < 0.6 for mean in stats.linear.mean)
    assert all(0 < deviation < 0.5 for deviation in stats.linear.std)


def test_ten_steps_on_real_pixels_are_finite_and_lower_the_loss(trained):
    spec, out = trained
    result = json.loads((out / "metrics.json").read_text())
    assert (result["steps"], result["samples_seen"]) == (STEPS, STEPS * spec.batch)
    assert all(np.isfinite(value) for value in result["metrics"].values())
    log = pd.read_csv(out / "log.csv")
    assert log["step"].tolist() == list(range(1, STEPS + 1))
    assert log["loss"].iloc[-3:].mean() < log["loss"].iloc[:3].mean()


def test_the_pretrained_backbone_tells_the_two_places_apart(study, prepared, trained):
    spec, out = trained
    point = Point(Arm("majortom", spec.architecture, SIZE), "roads", 0, 4)
    backbone = build_backbone(spec.architecture, SIZE)
    untrained = next(iter(backbone.state_dict().values())).clone()
    load_backbone(backbone, out, FinetuneSpec.of(study, point, pretrained=spec.fingerprint))
    assert not torch.equal(untrained, next(iter(backbone.state_dict().values())))
    stats = BandStats.load(prepared / "stats.json")
    embeddings = []
    for chips in (
        training_chips(spec, prepared / "chips", stats),
        validation_chips(spec, prepared / "chips", stats),
    ):
        nothing_hidden = torch.zeros(len(chips), 1, chips.side_px, chips.side_px, dtype=torch.bool)
        pixels = chips.batch(np.arange(len(chips)), nothing_hidden).pixels
        with torch.inference_mode():
            embeddings.append(backbone.eval()(pixels).summary)
    assert all(place.shape[1:] == (backbone.summary_dim,) for place in embeddings)
    assert torch.isfinite(torch.cat(embeddings)).all()
    one, other = (place.mean(dim=0) for place in embeddings)
    # Far apart by the spread of single chips, and not by rounding alone.
    assert float(((one - other).abs() / torch.cat(embeddings).std(dim=0)).max()) > 0.5


def test_the_two_places_are_on_different_sides(prepared):
    manifest = ChipStore(prepared / "chips").manifest
    assert sorted(manifest["grid_cell"].unique()) == sorted(CELLS)
    assert (manifest.groupby("grid_cell")["split"].nunique() == 1).all()
    assert set(manifest["split"]) == {"train", "val"}
    offsets = manifest.groupby("grid_cell")["offset_dn"].unique().map(list).to_dict()
    assert offsets == {"433D_629L": [1000], "637U_59R": [0]}
