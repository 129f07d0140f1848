"""Labels of a bench that hold no label, another scale, or no numbers: counted and masked, or refused by name."""

from functools import partial

import numpy as np
import pandas as pd
from attack import Attack, attacked_by

from geoladder.data.bench.reader import Bench
from tiny_archives import BenchFolder

BENCH_INDEX = ["bench-index", "--bench", "bench", "--out", "out.parquet"]
FRACTIONS = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32) ** 4
GAP = np.zeros(FRACTIONS.shape, bool)
GAP[:, :5] = True
CODES = np.random.default_rng(1).choice([10, 20, 30, 40, 50, 60, 80], FRACTIONS.shape)


def _write(folder, **labels):
    BenchFolder(folder / "bench").add("europe", "1", "train", 6, **labels)


def _same_fractions(folder, rtol=1e-6):
    """All true labels are read as they are, and nothing else is one."""
    bench = Bench(folder / "bench", folder / "out.parquet")
    labels = bench.labels("roads", bench.pool("roads", "train"))
    np.testing.assert_array_equal(np.isnan(labels), GAP[..., 0])
    np.testing.assert_allclose(labels[~GAP[..., 0]], FRACTIONS[..., 0][~GAP[..., 0]], rtol=rtol, atol=1e-3)
    assert bench.index["roads_unlabelled"].item() == GAP.mean()


def _same_codes(folder):
    bench = Bench(folder / "bench", folder / "out.parquet")
    classes = bench.labels("landcover", bench.pool("landcover", "train"))
    assert (classes[GAP[..., 0]] == 255).all() and (classes[~GAP[..., 0]] < 11).all()
    assert bench.index["landcover_unlabelled"].item() == GAP.mean()


def _gap(fill, scale=1, dtype=np.float32):
    return np.where(GAP, fill, FRACTIONS * scale).astype(dtype)


def _masked(name, labels):
    return Attack(
        f"roads: {name}",
        partial(_write, label_roads=labels),
        BENCH_INDEX,
        None,
        stated="labels of roads: numbers that are no label are left out",
        check=_same_fractions,
    )


def _refused(name, message, **labels):
    return Attack(name, partial(_write, **labels), BENCH_INDEX, message)


def _codes(fill, dtype):
    return Attack(
        f"land cover: {fill} in {dtype}",
        partial(_write, label_lc=np.where(GAP, fill, CODES).astype(dtype)),
        BENCH_INDEX,
        None,
        stated="have no label of landcover",
        check=_same_codes,
    )


def _pickled(folder):
    _write(folder)
    objects = np.array([open, print], object)
    np.save(folder / "bench/europe_1_train_label_roads.npy", objects, allow_pickle=True)


def _zip(folder):
    _write(folder)
    np.savez(folder / "roads", roads=FRACTIONS)
    (folder / "roads.npz").rename(folder / "bench/europe_1_train_label_roads.npy")


def _scale_file(folder, scale):
    BenchFolder(folder / "bench").add("europe", "1", "train", 6).tiles_metadata(
        {"europe_1": {"label_scale": scale}}
    )


def _record(folder, **record):
    dark = np.full((6, 16, 16, 10), 150, np.uint16)
    BenchFolder(folder / "bench").add("europe", "1", "train", 6, s2=dark).tiles_metadata({"europe_1": record})


def _offset(folder, offset_dn):
    assert pd.read_parquet(folder / "out.parquet")["offset_dn"][0].tolist() == [offset_dn]


UNCLEAR = "bench/europe_1_train_label_roads.npy: the scale of roads labels is unclear"
DENIED = {"offset_dn": [1000], "patches": {"train": [6]}}
ATTACKS = [
    *(
        _masked(f"{fill} among fractions", _gap(fill))
        for fill in (np.nan, np.inf, -np.inf, -1, -9999, 255, 1e30)
    ),
    *(_masked(f"{fill} among fractions", _gap(fill)) for fill in (2, 99, 100, 65_535)),
    *(_masked(f"{fill} among m2", _gap(fill, 100)) for fill in (np.nan, np.inf, -1, 255, 65_535)),
    _masked("float16 with infinity", _gap(np.inf, dtype=np.float16)),
    *(_codes(*of) for of in ((0, "uint8"), (255, "uint8"), (-1, "int16"), (65_535, "uint16"), (127, "int8"))),
    *(_codes(*of) for of in ((np.nan, "float32"), (np.inf, "float64"), (-9999, "int32"))),
    _refused("roads: 127 among m2", UNCLEAR, label_roads=_gap(127, 100)),
    _refused("roads: 1.5 among fractions", UNCLEAR, label_roads=_gap(1.5)),
    _refused("roads: in 0..255", UNCLEAR, label_roads=(255 * FRACTIONS).round().astype(np.uint8)),
    _refused("roads: per mille", UNCLEAR, label_roads=(1000 * FRACTIONS).round().astype(np.int16)),
    _refused(
        "roads: both scales", UNCLEAR, label_roads=np.where(FRACTIONS > 0.9, 100 * FRACTIONS, FRACTIONS)
    ),
    _refused("roads: texts", "holds <U1; numbers are expected", label_roads=np.full(FRACTIONS.shape, "a")),
    _refused(
        "roads: complex", "holds complex64; numbers are expected", label_roads=FRACTIONS.astype("complex64")
    ),
    _refused("roads: without channel", "has shape (6, 16, 16)", label_roads=FRACTIONS[..., 0]),
    _refused("roads: one patch less", "has shape (5, 16, 16, 1)", label_roads=FRACTIONS[:5]),
    Attack("roads: pickled objects", _pickled, BENCH_INDEX, "label_roads.npy cannot be read"),
    Attack("roads: a zip of arrays", _zip, BENCH_INDEX, "label_roads.npy cannot be read"),
    Attack(
        "land cover: classes 0 to 10",
        partial(_write, label_lc=np.searchsorted([10, 20, 30, 40, 50, 60, 80], CODES).astype(np.uint8)),
        BENCH_INDEX,
        None,
        stated="is of no class",
    ),
    Attack("a label_scale that labels deny", partial(_scale_file, scale=100), BENCH_INDEX, "0 of 1 agree"),
    Attack("a label_scale of 7", partial(_scale_file, scale=7), BENCH_INDEX, "1 and 100 are allowed"),
    Attack("an offset that pixels deny", partial(_record, **DENIED), BENCH_INDEX, "bench.harmonise"),
    Attack(
        "an offset that pixels deny, by pixels",
        partial(_record, **DENIED),
        [*BENCH_INDEX, "--harmonise", "pixels"],
        None,
        stated="DN offset of dates: by pixels",
        check=partial(_offset, offset_dn=0),
    ),
    Attack(
        "offsets that are texts",
        partial(_record, offset_dn=["1000"], patches={"train": [6]}),
        BENCH_INDEX,
        "whole numbers",
    ),
]
test_labels = attacked_by(ATTACKS)
