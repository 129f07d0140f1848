import math

import pytest
import torch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.models.build import PAPER_HEADS, PretrainOutput
from geoladder.study.pretraining import Objective, TargetUse
from geoladder.training.objective import PretrainTerms, pretrain_terms


def raster(classes, weight=1.0):
    return TargetUse(kind="raster", raster="x.tif", codes=list(range(classes)), weight=weight)


def test_terms_by_hand():
    pixels = torch.zeros(2, 10, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :1] = True  # a quarter
    reconstruction = torch.ones(2, 10, 4, 4)
    reconstruction[:, :, :1] = 3.0
    reconstruction[1, :, :1] = 1.0
    # The first map knows both chips, the second one of them, the third none.
    maps = {"a": ([2, 1], 3), "b": ([0, -1], 5), "c": ([-1, -1], 7)}
    objective = Objective(
        targets=Objective().targets | {name: raster(classes) for name, (_, classes) in maps.items()}
    )
    truth = {name: torch.tensor(classes) for name, (classes, _) in maps.items()}
    outputs = {name: torch.zeros(2, classes) for name, (_, classes) in maps.items()}
    batch = PretrainBatch(pixels, mask, {"geo": torch.zeros(2, 4), "climate": torch.tensor([0, 30])} | truth)
    heads = {"geo": torch.full((2, 4), 0.5), "climate": torch.zeros(2, 31)} | outputs
    terms = pretrain_terms(PretrainOutput(reconstruction, heads), batch, objective)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {
            "masked_mse": (9 + 1) / 2,
            "visible_mse": 1,
            "geo_mse": 0.25,
            "climate_cross_entropy": math.log(31),
            "a_cross_entropy": math.log(3),
            "b_cross_entropy": math.log(5) / 2,
            "c_cross_entropy": 0,
        }
    )


def test_total_is_the_weighted_sum():
    targets = {"geo": {"weight": 0.25}, "climate": {"weight": 0.125}, "map": raster(2, 0.0625)}
    objective = Objective(masked_weight=1, visible_weight=0.5, targets=targets)
    names = ("masked_mse", "visible_mse", "geo_mse", "climate_cross_entropy", "map_cross_entropy")
    terms = PretrainTerms(zip(names, map(torch.tensor, (1.0, 10.0, 100.0, 1000.0, 10000.0)), strict=True))
    assert float(terms.total(objective)) == 1 + 5 + 25 + 125 + 625


def test_heads_are_in_the_same_order_whatever_order_targets_are_listed_in():
    targets = {"zone": raster(3), "climate": {"weight": 1}, "area": raster(2), "geo": {"weight": 1}}
    sizes = Objective(targets=targets).head_sizes
    assert list(sizes.items()) == [*PAPER_HEADS.items(), ("area", 2), ("zone", 3)]
    assert Objective().head_sizes == PAPER_HEADS


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ({"geo_weight": 0.1}, r"geo_weight is no key any more; write `targets: \{geo: \{weight"),
        ({"labels": {}}, "kind: raster"),
        ({"targets": {"goe": {"weight": 1}}}, "unknown target 'goe'; did you mean 'geo'"),
        ({"targets": {"geo": {"wieght": 1}}}, "unknown key 'wieght'; did you mean 'weight'"),
        ({"targets": {"geo": {"weight": -1}}}, "greater than or equal to 0"),
        ({"targets": {"land cover": {"kind": "geo", "weight": 1}}}, "should match pattern"),
        ({"targets": {"masked": {"kind": "geo", "weight": 1}}}, "no target can be called 'masked'"),
    ],
)
def test_bad_targets_are_named(objective, words):
    with pytest.raises(ValueError, match=words):
        Objective(**objective)
