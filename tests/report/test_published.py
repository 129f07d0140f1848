"""The paper's numbers and figures: what is kept is what was digitised, and what is drawn is what is kept."""

import importlib.util
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from geoladder.errors import GeoladderError
from geoladder.published.points import DEFECTS, chart, mean_errors, model_table, read_models, read_points
from geoladder.report import published, style
from geoladder.report.published import draw_published, write_published_tables
from geoladder.study.analysis import Figures

ROOT = Path(__file__).parents[2]
DIGITISED = ROOT.parent / "shared/published"
FIGURES = range(4, 23)


def test_the_kept_tables_are_what_the_tool_makes_of_the_digitised_ones():
    if not DIGITISED.is_dir():
        pytest.skip("the digitised charts are not beside the project")
    spec = importlib.util.spec_from_file_location("convert", ROOT / "tools/convert_published.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    results, flops = (
        pd.read_csv(DIGITISED / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("results", "flops")
    )
    folder = ROOT / "src/geoladder/published"
    assert tool.points_of(results).to_csv(index=False) == (folder / "points.csv").read_text()
    assert tool.models_of(flops).to_csv(index=False) == (folder / "models.csv").read_text()
    means = mean_errors(as_printed=True)
    for row in flops[flops.recomputed_mean_acc != ""].itertuples():
        model = {name: key for key, name in tool.FLOPS.items()} | {"Geo-Aware U-Net 44M": "U-Net 44M-2T"}
        ours = means.loc[model.get(row.model, row.model)]
        assert ours.accuracy == pytest.approx(float(row.recomputed_mean_acc), abs=1e-6)
        if row.recomputed_mean_rmse:
            assert ours.rmse == pytest.approx(float(row.recomputed_mean_rmse), abs=1e-6)


def test_points_are_sound():
    points = read_points()
    assert sorted(points.figure.unique()) == [f for f in FIGURES if f not in (8, 9)]
    assert ((points.low <= points.value) & (points.value <= points.high)).all()
    assert set(points.defect) == {"", *DEFECTS}
    assert set(points.model) <= set(read_models().index)
    squared = points[points.defect == "squared"]
    assert np.allclose(squared.value**2, squared.plotted, atol=1e-6)
    assert (points[points.defect != "squared"].value == points[points.defect != "squared"].plotted).all()
    assert not points.duplicated(["figure", "task", "class", "model", "n"]).any()


def test_squares_among_roots_change_means_only_where_they_are():
    change = (mean_errors().rmse - mean_errors(as_printed=True).rmse).round(9)
    assert set(change[change != 0].index) == {
        *("Mamba 43M-2T", "RS3Mamba 168M-2T", "TerraMind v1.0-L", "ViT UPerNet P16 100M-2T")
    }
    assert (change >= 0).all()


def test_two_means_of_figure_8_are_not_those_of_the_curves():
    table = read_models().join(mean_errors()).dropna(subset="drawn_rmse")
    apart = (table.drawn_rmse / table.rmse - 1).abs() > 1e-3
    assert set(table.index[apart]) == {"ViT UPerNet P16 300M ImageNet", "Mamba UPerNet P16 100M"}
    assert np.allclose(table.drawn_accuracy, table.accuracy, atol=1e-6)


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are when they are saved."""
    figures = []
    for module in ("curves", "flops", "precision"):
        name = f"geoladder.report.figures.published_{module}"
        monkeypatch.setattr(
            importlib.import_module(name),
            "save",
            lambda *given: (figures.append(given[0]), style.save(*given)),
        )
    return figures


def text_boxes(figure):
    """Rectangles of the level texts that are drawn, and the size of the canvas, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for place, axis in enumerate((axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            texts += [t for t in axis.get_ticklabels(which="both") if low <= t.get_position()[place] <= high]
    renderer = canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in texts if t.get_text() and t.get_rotation() in (0, 90)]
    return boxes, canvas.get_width_height()


@pytest.mark.parametrize(
    "figure",
    [pytest.param(f, marks=[] if f in (8, 15, 21) else [pytest.mark.slow]) for f in FIGURES],
)
def test_a_figure_has_its_points_and_no_text_on_text(drawn, tmp_path, figure):
    draw_published(figure, Figures(), tmp_path / "figure.pdf")
    table = pd.read_csv(tmp_path / "figure.csv", keep_default_na=False)
    if figure not in (8, 9):
        assert np.array_equal(np.sort(table.value), np.sort(chart(figure).value))
    assert (tmp_path / "figure.png").stat().st_size > 1e4
    boxes, size = text_boxes(drawn[0])
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= size[0] and b.y1 <= size[1] for b in boxes)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_as_printed_a_square_stands_among_roots(drawn, tmp_path):
    draw_published(12, Figures(as_printed=True), tmp_path / "figure.pdf")
    lines = {line.get_label(): line for line in drawn[0].legends[0].get_lines()}
    assert len(lines) == 5
    assert min(line.get_ydata().min() for line in drawn[0].axes[0].lines) == pytest.approx(0.0041, abs=1e-5)


def test_a_study_on_the_real_bench_stands_beside(drawn, table, tmp_path):
    results = pd.read_csv(table)
    draw_published(7, Figures(), tmp_path / "figure.pdf", results=table)
    ours = pd.read_csv(tmp_path / "figure.csv").query("model.str.startswith('here: ')")
    assert set(ours.n) == set(results[(results.stage == "finetune") & (results.task == "roads")].n)
    assert (ours.low <= ours.value).all() and (ours.value <= ours.high).all()


def test_tables_come_in_three_forms(tmp_path):
    write_published_tables(tmp_path)
    assert {file.name for file in tmp_path.glob("[!.]*")} == {
        f"table{number}.{suffix}" for number in (1, 2) for suffix in ("csv", "md", "tex")
    }
    assert len(pd.read_csv(tmp_path / "table2.csv")) == len(model_table()) == 22
    assert "\\toprule" in (tmp_path / "table1.tex").read_text()


def test_a_schematic_is_no_chart(tmp_path):
    with pytest.raises(GeoladderError, match=r"figure 1 of the paper .*; there are 4, 5"):
        draw_published(1, Figures(), tmp_path / "figure.pdf")
    assert published.PRECISION == (21, 22)
