import math

import pytest
import torch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.models.heads import PretrainOutput
from geoladder.study.pretraining import Objective
from geoladder.training.losses import PretrainTerms, pretrain_terms


def test_terms_by_hand():
    pixels = torch.zeros(2, 10, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :1] = True  # a quarter
    reconstruction = torch.ones(2, 10, 4, 4)
    reconstruction[:, :, :1] = 3.0
    reconstruction[1, :, :1] = 1.0
    logits = torch.zeros(2, 31)
    # The first map knows both chips, the second one of them, the third none.
    labels = torch.tensor([[2, 0, -1], [1, -1, -1]])
    maps = torch.zeros(2, 3 + 5 + 7)
    batch = PretrainBatch(pixels, mask, torch.zeros(2, 4), torch.tensor([0, 30]), labels)
    terms = pretrain_terms(
        PretrainOutput(reconstruction, torch.full((2, 4), 0.5), logits, maps), batch, (3, 5, 7)
    )
    assert float(terms.masked_mse) == pytest.approx((9 + 1) / 2)
    assert float(terms.visible_mse) == pytest.approx(1)
    assert float(terms.geo_mse) == pytest.approx(0.25)
    assert float(terms.climate_cross_entropy) == pytest.approx(math.log(31))
    assert float(terms.label_cross_entropy) == pytest.approx(math.log(3) + math.log(5) / 2)


def test_total_is_the_weighted_sum():
    terms = PretrainTerms(*map(torch.tensor, (1.0, 10.0, 100.0, 1000.0, 10000.0)))
    weights = Objective(
        masked_weight=1, visible_weight=0.5, geo_weight=0.25, climate_weight=0.125, label_weight=0.0625
    )
    assert float(terms.total(weights)) == 1 + 5 + 25 + 125 + 625
