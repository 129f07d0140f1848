"""The points of the paper's charts, and the models they are of.

Charts bear their number in the September 2025 revision. Every number is of a single run: the paper repeats none.
"""

from pathlib import Path

import pandas as pd

from geoladder.errors import GeoladderError

TABLES = Path(__file__).parent
MODEL_COLUMNS = ["corpus", "architecture", "size"]
DEFECTS = {
    "squared": "as its square",
    "duplicate": "one series under two names",
    "disagrees": "another value in another chart",
    "rounded": "known from few digits",
}
"""What is wrong with a point, in words; a point has the first that applies."""
DENSITIES = ("roads", "buildings")
CLASSES = (
    *(
        "Tree cover",
        "Shrubland",
        "Grassland",
        "Cropland",
        "Built-up",
        "Bare/sparse vegetation",
        "Snow and ice",
    ),
    *("Permanent water bodies", "Herbaceous wetland", "Mangrove", "Moss and lichen"),
)
"""Of land cover, as the charts of precision name and order them."""


def read_points() -> pd.DataFrame:
    """All points of the charts of few-shot curves and of precision.

    Columns: figure (number), task, metric (`rmse` in units of the density, 0 to 1, `accuracy` or `precision`), class
    (of a precision), model, n (patches per region bucket), value, low and high (what rounding and reading leave
    open), plotted (the chart's own number), version, extraction (`vector`, `raster`), defect (a key of `DEFECTS`, or
    empty) and note.
    """
    return pd.read_csv(TABLES / "points.csv", keep_default_na=False)


def read_models() -> pd.DataFrame:
    """Models by name: architecture (as in studies; empty for one that is not here), corpus (pretrained on), size.

    And gflops_fwd (of a forward pass on ten bands of 128 x 128, in the text), drawn_gflops_fwd, drawn_rmse and
    drawn_accuracy (in the charts against FLOPs), NaN where the paper gives none.
    """
    columns = dict.fromkeys(["architecture", "corpus", "size"], "")
    return pd.read_csv(TABLES / "models.csv", index_col="model").fillna(columns)


def chart(figure: int) -> pd.DataFrame:
    """The points of one chart, with the columns `corpus`, `architecture` and `size` of their models.

    Raises:
        GeoladderError: the paper has no such chart.
    """
    points = read_points()
    if figure not in set(points.figure):
        charts = ", ".join(map(str, sorted(set(points.figure))))
        raise GeoladderError(
            f"figure {figure} of the paper is no chart of points that is kept here; there are {charts}"
        )
    return points[points.figure == figure].join(read_models()[MODEL_COLUMNS], on="model")


def mean_errors(as_printed: bool = False) -> pd.DataFrame:
    """Means over n of each model with a curve for every task: rmse (of both densities) and accuracy, by model.

    Of a point in several charts that of the last counts: vector charts, whose numbers agree. `as_printed` takes
    squares as roots, as the paper's own means do.
    """
    points = read_points()
    points = points[points.metric != "precision"].drop_duplicates(["task", "model", "n"], keep="last")
    value = points.plotted if as_printed else points.value
    means = value.groupby([points.metric, points.model]).mean().unstack("metric")
    tasks = points.groupby("model").task.nunique()
    return means[tasks.reindex(means.index) == len(DENSITIES) + 1]


def pretraining_sets() -> pd.DataFrame:
    """Table I of the paper, and FastTOM from its text: models, what they are pretrained on, its size and surface."""
    return pd.read_csv(TABLES / "corpora.csv", dtype=str, keep_default_na=False)


def model_table() -> pd.DataFrame:
    """Table II of the paper, for models with points: FLOPs of the text, and mean errors of the curves beside them."""
    columns = [*MODEL_COLUMNS, "gflops_fwd"]
    return read_models()[columns].join(mean_errors().add_prefix("mean_")).reset_index()
