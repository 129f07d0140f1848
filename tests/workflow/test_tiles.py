"""The real graph where training reads tiles: nothing but validation is cut, by several jobs, and cells train."""

import json

import pandas as pd
import pytest

CELL = "results/pretrain/majortom@1-2/unet-xs/seed0/metrics.json"


@pytest.mark.slow
def test_a_cell_is_trained_from_tiles(fresh):
    fresh.study["pretrain"] |= {"read": "tiles", "crops_per_tile": 4, "shuffle_window": 8}
    fresh.study["cleaning"] = {"chip_codec": "blosc2"}
    fresh.study["compute"] = {"workers": 1, "chip_jobs": 2}
    fresh.write()
    done = fresh.run(target=CELL)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((fresh.folder / CELL).read_text())
    assert result["spec"]["tiles"]["crops_per_tile"] == 4
    assert 0 < result["coverage"] <= 1
    chips = fresh.folder / "data/majortom/chips"
    assert set(pd.read_parquet(chips / "manifest.parquet")["split"]) == {"val"}
    assert list(chips.glob("chips-*.b2frame"))
    assert fresh.planned(CELL) == {}
