"""The bench's own selection, at the published sizes: labels of 4 px, so that the whole bench fits in a test."""

import math
from itertools import pairwise
from random import Random

import numpy as np
import pandas as pd
import pytest

from geoladder.data.bench.phileo import draw_as_phileo
from geoladder.errors import GeoladderError

PX = 4
SIZES = {  # train and val patches of land cover: as published
    "europe": (142486, 15948),
    "east-africa": (225800, 25301),
    "eq-guinea": (209211, 23552),
    "north-america": (92097, 10295),
    "south-america": (62884, 7099),
    "japan": (33591, 3768),
}
PUBLISHED_50 = {  # indices_12122023_128_10m_lc_50.json: first and last of training, first of validation
    "europe": ([109214, 2665, 78286], [130868, 56722], [6825, 12004, 166]),
    "east-africa": ([109214, 192069, 2665], [195174, 108915], [13651, 24008, 333]),
    "northwest-africa": ([109214, 192069, 2665], [174037, 42941, 202069], [13651, 333, 9785]),
    "north-america": ([54607, 1332, 39143], [54333, 13879], [6825, 166, 4892]),
    "south-america": ([27303, 48017, 666], [1760, 33469], [3412, 6002, 83]),
    "japan": ([27303, 666, 19571], [12178, 16890], [1706, 3001, 41]),
}
JAPAN_5000 = ([19386, 28454, 24969], [914, 992, 2782])  # indices_30102023_lc_5000.json: the last ones
ROADS_ORDER = [54607, 1332, 39143, 25383, 35421, 74187]  # indices_01112023_roads_50.json, of a pool of 87040


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of the published sizes, their pixels a hole in the file; two of three patches have roads."""
    folder = tmp_path_factory.mktemp("published")
    for region, patches in SIZES.items():
        for split, count in zip(("train", "val"), patches, strict=True):
            stem = folder / f"{region}_0_{split}"
            np.lib.format.open_memmap(f"{stem}_s2.npy", "w+", np.uint16, (count, PX, PX, 10))
            np.lib.format.open_memmap(f"{stem}_label_lc.npy", "w+", np.uint8, (count, PX, PX, 1))
            roads = np.random.default_rng(count).random((count, 1, 1, 1), np.float32) < 2 / 3
            np.save(f"{stem}_label_roads.npy", np.broadcast_to(roads * np.float32(0.3), (count, PX, PX, 1)))
    return folder


@pytest.fixture
def at_scale(published, opened):
    class Folder:
        folder = published

    return opened(Folder)


def positions(rows):
    return {bucket: of.tolist() for bucket, of in rows.groupby("bucket", sort=False)["position"]}


def is_nested(small, large):
    return all(large[bucket][: len(few)] == few for bucket, few in small.items())


def test_land_cover_is_the_published_selection(at_scale):
    pool = at_scale.pool("landcover", "train")["bucket"].value_counts(sort=False)
    assert pool.tolist() == [142486, 225800, 209211, 92097, 62884, 33591]
    subsets = draw_as_phileo(at_scale, "landcover", [50, 100, 500, 1000, 5000], allow_short=False)
    train, val = map(positions, subsets[50])
    assert list(train) == list(PUBLISHED_50)
    for bucket, (first, last, first_val) in PUBLISHED_50.items():
        assert len(train[bucket]) == 50 and len(val[bucket]) == 10
        assert train[bucket][: len(first)] == first and train[bucket][-len(last) :] == last
        assert val[bucket][: len(first_val)] == first_val
    train, val = map(positions, subsets[5000])
    assert (train["japan"][-3:], val["japan"][-3:]) == JAPAN_5000
    sizes = sorted(subsets)
    for small, large in pairwise(sizes):
        assert is_nested(positions(subsets[small].train_rows), positions(subsets[large].train_rows))


def test_roads_walk_one_order_and_keep_a_quarter_of_the_sparse(at_scale):
    subsets = draw_as_phileo(at_scale, "roads", [50, 500, 5000], allow_short=False)
    for small, large in ((50, 500), (500, 5000)):
        assert is_nested(positions(subsets[small].train_rows), positions(subsets[large].train_rows))
    dense = at_scale.labels("roads", subsets[5000].train_rows).mean((1, 2)) > 0.005
    assert (~dense).mean() == pytest.approx((1 / 3 / 4) / (2 / 3 + 1 / 3 / 4), abs=0.01)
    assert ROADS_ORDER == [p for p in Random(12345).sample(range(87040), 87040)[:7] if p != 48288]  # left out


@pytest.mark.parametrize(("task", "n"), [("roads", 3), ("buildings", 20), ("roads", 60)])
def test_a_density_by_a_plain_loop(bench, task, n):
    """As the bench's loader, one patch after another, one generator of the sparse for both sides of a bucket."""
    subset = draw_as_phileo(bench, task, [1, n], allow_short=True)[n]
    for bucket in ("europe", "japan"):
        sparse = Random(156)
        for side, rows, size, threshold in [
            ("train", subset.train_rows, n, 0.005),
            ("val", subset.val_rows, math.ceil(0.2 * n), 0.01),
        ]:
            pool = bench.pool(task, side)
            pool = pool[pool["bucket"] == bucket]
            labels, kept = bench.labels(task, pool), []
            for place in Random(12345).sample(range(len(pool)), len(pool)):
                if np.mean(labels[place]) > threshold or sparse.random() > 0.75:
                    kept.append(place)
                if len(kept) == size:
                    break
            assert rows.loc[rows["bucket"] == bucket, "position"].tolist() == kept


def test_short_buckets_are_an_error_or_all_there_is(bench):
    with pytest.raises(GeoladderError, match=r"n = 60 for landcover .* bucket 'east-africa' .*allow_short"):
        draw_as_phileo(bench, "landcover", [60], allow_short=False)
    subset = draw_as_phileo(bench, "landcover", [60], allow_short=True)[60]
    assert subset.train_rows["bucket"].value_counts().to_dict()["europe"] == 50
    assert (subset.train_rows["bucket"].value_counts() <= 50).all()


def test_a_pixel_without_label_makes_a_patch_sparse(bench_folder, opened):
    holed = np.full((400, 16, 16, 1), 0.5, np.float32)
    holed[:, 0, 0] = np.nan
    bench_folder.add("japan", "1", "train", 400, label_roads=holed).add("japan", "1", "val", 400)
    bench = opened(bench_folder)
    if not np.isnan(bench.labels("roads", bench.pool("roads", "train"))).any():
        pytest.skip("pixels without label are read as 0")
    rows = draw_as_phileo(bench, "roads", [400], allow_short=True)[400].train_rows
    assert 60 < len(rows) < 140 and isinstance(rows, pd.DataFrame)
