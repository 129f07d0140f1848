import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoladder.cli import main
from geoladder.data.archives.grid import cell_of, centre_of
from geoladder.errors import GeoladderError
from geoladder.report.figures import coverage
from geoladder.report.figures.coverage import draw_coverage, read_ledger
from geoladder.study.analysis import Figures


def ledger(path, rows):
    names = ["grid_cell", "product_id", "kept", "reason"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


@pytest.fixture
def mixed(tmp_path):
    places = [(lat, lon) for lat in range(-80, 90, 20) for lon in range(-175, 180, 25)]
    reasons = ["", "", "", "cloud", "nodata", "", "duplicate cell"]
    rows = [
        (cell_of(lat, lon), f"p{i}", reasons[i % 7] == "", reasons[i % 7])
        for i, (lat, lon) in enumerate(places)
    ]
    return ledger(tmp_path / "ledger.csv", rows)


@pytest.fixture
def figures(monkeypatch):
    """Figures as they were when saved."""
    figures, save = [], coverage.save

    def keep(figure, numbers, out):
        figures.append(figure)
        save(figure, numbers, out)

    monkeypatch.setattr(coverage, "save", keep)
    return figures


def test_every_tile_is_a_dot_at_its_place_in_the_colour_of_its_fate(mixed, tmp_path, figures):
    draw_coverage(mixed, Figures(), tmp_path / "out" / "coverage.pdf")
    tiles = pd.read_csv(mixed, keep_default_na=False)
    (axis,) = figures[0].axes
    tile_legend = figures[0].legends[0]
    labels = [text.get_text() for text in tile_legend.get_texts()]
    counts = tiles["reason"].replace("", "kept").value_counts()
    assert labels[0].startswith("kept") and set(labels) == {
        f"{name} ({count})" for name, count in counts.items()
    }
    assert len(axis.collections) == len(labels)
    colours = set()
    for dots, text in zip(axis.collections, labels, strict=True):
        name = text.rpartition(" ")[0].replace("kept", "")
        expected = {centre_of(cell)[::-1] for cell in tiles.loc[tiles["reason"] == name, "grid_cell"]}
        np.testing.assert_allclose(sorted(map(tuple, dots.get_offsets())), sorted(expected))
        colours.add(tuple(dots.get_facecolors()[0]))
    assert len(colours) == len(labels)
    assert axis.get_title(loc="left").startswith(f"{counts['kept']} of {len(tiles)} tiles kept")


def test_pdf_png_and_numbers_lie_beside_one_another(mixed, tmp_path):
    assert main(["figure-coverage", "--ledger", str(mixed), "--out", str(tmp_path / "a.pdf")]) == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == pytest.approx(180 / 25.4 * 300, abs=2)
    numbers = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    tiles = pd.read_csv(mixed, keep_default_na=False)
    pd.testing.assert_frame_equal(numbers[list(tiles)], tiles)
    assert [cell_of(*place) for place in numbers[["lat_deg", "lon_deg"]].to_numpy()] == list(
        tiles["grid_cell"]
    )


def test_equal_ledgers_give_equal_bytes(mixed, tmp_path):
    for name in ("a", "b"):
        draw_coverage(mixed, Figures(width_mm=80), tmp_path / f"{name}.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_climates_lie_where_they_are(tmp_path, figures):
    draw_coverage(ledger(tmp_path / "l.csv", [("1U_1R", "p", True, "")]), Figures(), tmp_path / "a.pdf")
    (image,) = figures[0].axes[0].images
    left, right, bottom, top = image.get_extent()
    pixels = image.get_array()
    assert (left, right, bottom, top) == (-180, 180, -90, 90) and image.origin == "upper"
    for lat, lon, group in ((0, -150, 0), (0, 23, 1), (23, 5, 2), (48, 2, 3), (60, 100, 4), (-80, 90, 5)):
        row = int((top - lat) / 180 * pixels.shape[0])
        column = int((lon - left) / 360 * pixels.shape[1])
        assert pixels[row, column] == group, (lat, lon)


def test_cells_off_the_grid_are_counted_not_drawn(tmp_path, figures):
    rows = [
        ("1U_1R", "a", True, ""),
        ("9999U_1R", "b", False, "metadata mismatch"),
        ("", "c", False, "nodata"),
    ]
    draw_coverage(ledger(tmp_path / "l.csv", rows), Figures(), tmp_path / "a.pdf")
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels[-1] == "not on the grid: 2 of these" and "metadata mismatch (1)" in labels
    assert read_ledger(tmp_path / "l.csv")["lat_deg"].isna().tolist() == [False, True, True]


def test_cells_at_the_date_line_stay_on_the_map(tmp_path):
    rows = [
        (cell_of(lat, lon), "p", True, "") for lat in range(-85, 86, 5) for lon in (-180, -179.99, 179.99)
    ]
    assert read_ledger(ledger(tmp_path / "l.csv", rows))["lon_deg"].between(-180, 180).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is no ledger .* grid_cell, product_id, kept, reason"),
        ("grid_cell,product_id,kept,reason\n", "lists no tile"),
        ("grid_cell,product_id,kept,reason\n1U_1R,p,perhaps,\n", "kept holds 'perhaps'; True or False"),
    ],
)
def test_no_ledger_is_one_message(tmp_path, text, message, capsys):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(GeoladderError, match=message):
        read_ledger(path)
    assert main(["figure-coverage", "--ledger", str(path), "--out", str(tmp_path / "a.pdf")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(GeoladderError, match="is no ledger"):
        read_ledger(tmp_path / "nowhere.csv")
