import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from geoladder.errors import GeoladderError
from geoladder.report.inspect import inspect
from geoladder.runs.atomic import write_json

SAMPLE = Path(__file__).parents[3] / "shared/samples/majortom/images/part_00001.parquet"
real = pytest.mark.skipif(not SAMPLE.exists(), reason=f"no real Sentinel-2 sample at {SAMPLE}")


@real
def test_a_majortom_row_is_described_and_drawn(tmp_path):
    text = inspect(SAMPLE, tmp_path / "look.png", row=1)
    assert "637U_59R" in text
    assert "B8A" in text
    assert (tmp_path / "look.png").stat().st_size > 5000


@real
def test_corrupt_bytes_and_rows_that_are_not_there_are_named(tmp_path):
    with pytest.raises(GeoladderError, match=r"0\.\.1.*--row 2"):
        inspect(SAMPLE, row=2)
    table = pq.ParquetFile(SAMPLE).read_row_group(0)
    broken = table.set_column(table.schema.get_field_index("B04"), "B04", [[b"not a tiff"]])
    pq.write_table(broken, tmp_path / "part.parquet")
    with pytest.raises(GeoladderError, match="band B04"):
        inspect(tmp_path / "part.parquet")
    (tmp_path / "half.parquet").write_bytes(SAMPLE.read_bytes()[:100_000])
    with pytest.raises(GeoladderError, match=r"half\.parquet"):
        inspect(tmp_path / "half.parquet")


def test_a_bench_patch_comes_with_its_labels(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "japan_0_train_s2.npy", rng.integers(1, 3000, (3, 16, 16, 10)).astype(np.uint16))
    np.save(tmp_path / "japan_0_train_label_roads.npy", rng.random((3, 16, 16, 1)).astype(np.float32))
    np.save(tmp_path / "japan_0_train_label_lc.npy", rng.choice([0, 10, 95], (3, 16, 16, 1)).astype(np.uint8))
    text = inspect(tmp_path / "japan_0_train_s2.npy", tmp_path / "look.png", row=2)
    assert "label roads" in text
    assert "no label building" in text
    assert (tmp_path / "look.png").exists()


def bench(folder, images=(3, 16, 16, 10), labels=(3, 16, 16, 1)):
    np.save(folder / "japan_0_train_s2.npy", np.ones(images, np.uint16))
    np.save(folder / "japan_0_train_label_roads.npy", np.ones(labels, np.float32))
    return folder / "japan_0_train_s2.npy"


def test_wrong_band_counts_and_labels_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(GeoladderError, match=r"\(3, 16, 16, 3\).*10 bands"):
        inspect(bench(tmp_path, images=(3, 16, 16, 3)), tmp_path / "look.png")
    with pytest.raises(GeoladderError, match=r"label_roads\.npy has shape \(1, 16, 16, 1\)"):
        inspect(bench(tmp_path, labels=(1, 16, 16, 1)), tmp_path / "look.png")
    patch = bench(tmp_path)
    (tmp_path / "japan_0_train_label_roads.npy").write_bytes(b"no")
    with pytest.raises(GeoladderError, match=r"label_roads\.npy cannot be read"):
        inspect(patch, tmp_path / "look.png")
    np.save(tmp_path / "10m-00000.npy", np.ones((3, 2, 8, 8), np.uint16))
    with pytest.raises(GeoladderError, match="4 bands on axis 1"):
        inspect(tmp_path / "10m-00000.npy", tmp_path / "look.png")
    assert not (tmp_path / "look.png").exists()


@real
def test_a_row_without_a_band_is_named(tmp_path):
    table = pq.ParquetFile(SAMPLE).read_row_group(0)
    pq.write_table(table.drop_columns(["B04", "product_id"]), tmp_path / "part.parquet")
    with pytest.raises(GeoladderError, match="row 0 lacks product_id, B04"):
        inspect(tmp_path / "part.parquet")


def test_chips_are_drawn_and_tables_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("10m-00000.npy", np.ones((2, 4, 8, 8), np.uint16))
    assert "10m-00000-1.png" in inspect(Path("10m-00000.npy"), row=1)
    np.save("other.npy", np.arange(4))
    assert "quicklook" not in inspect(Path("other.npy"))


def test_results_are_listed(tmp_path):
    (tmp_path / "n4.json").write_text(
        json.dumps({"metrics": {"rmse": 0.25}, "by_bucket": {"japan": {"rmse": 0.5}}})
    )
    text = inspect(tmp_path / "n4.json")
    assert "rmse: 0.25" in text
    assert "japan" in text


def test_what_cannot_be_read_is_explained(tmp_path):
    for name, content in (("x.npy", b"no"), ("x.json", b"{"), ("x.safetensors", b"no"), ("x.parquet", b"no")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GeoladderError, match=name.replace(".", r"\.")):
            inspect(tmp_path / name)
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(GeoladderError, match=r"allowed are \.parquet"):
        inspect(tmp_path / "x.zip")
    with pytest.raises(GeoladderError, match="no checkpoint"):
        inspect(tmp_path)


def test_a_file_that_is_not_as_its_seal_says_is_not_shown(tmp_path):
    write_json(tmp_path / "metrics.json", {"r2": 0.3})
    assert "r2: 0.3" in inspect(tmp_path / "metrics.json")
    (tmp_path / "metrics.json").write_text('{"r2": 0.9}')
    with pytest.raises(GeoladderError, match=r"metrics\.json .* damaged or edited"):
        inspect(tmp_path / "metrics.json")


def test_the_folder_one_is_in_is_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GeoladderError, match="is no checkpoint"):
        inspect(Path())
