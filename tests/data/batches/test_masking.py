import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.batches.batch import block_masks
from geoladder.errors import GeoladderError


def draw(seed=0, batch=5, height=16, width=24, block=4, ratio=0.6):
    return block_masks(batch, height, width, block, ratio, torch.Generator().manual_seed(seed))


@given(
    rows=st.integers(1, 6),
    columns=st.integers(2, 6),
    block=st.integers(1, 5),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_every_chip_hides_the_same_whole_blocks(rows, columns, block, ratio, seed):
    mask = draw(seed, 3, rows * block, columns * block, block, ratio)
    assert mask.shape == (3, 1, rows * block, columns * block)
    assert mask.dtype == torch.bool
    wanted = min(max(round(ratio * rows * columns), 1), rows * columns - 1)
    assert mask.sum(dim=(1, 2, 3)).tolist() == [wanted * block**2] * 3
    blocks = mask.view(3, rows, block, columns, block)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_a_ratio_of_zero_hides_nothing():
    assert not draw(ratio=0.0).any()


def test_masks_follow_the_generator_and_differ_between_chips():
    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()
    assert (draw(1)[0] != draw(1)[1]).any()


def test_every_block_is_hidden_as_often():
    share = draw(batch=4000).float().mean(dim=0)
    assert (share - 14 / 24).abs().max() < 0.04


@pytest.mark.parametrize(("height", "width", "block"), [(16, 16, 5), (16, 18, 4), (4, 4, 4)])
def test_blocks_that_do_not_tile_are_refused(height, width, block):
    with pytest.raises(GeoladderError, match="mask_block_px"):
        draw(height=height, width=width, block=block)
