"""Converts digitised numbers of the paper to the tables of `geoladder.published` and the runs of `geoladder claims`.

    python tools/convert_published.py RESULTS.csv FLOPS.csv

The numbers were digitised from the charts of arXiv 2506.14765, "Scaling-Up the Pretraining of the Earth Observation
Foundation Model PhilEO to the MajorTOM Dataset" (v1, June 2025) and its September 2025 revision (sep24, v4 in
content); a few are from its prose. RESULTS.csv has one row a point: source_version, figure, task, metric, model,
n_shot, value, extraction, est_abs_error, note and others; FLOPS.csv one a model: gflops of a forward pass, and the
means in the charts of error against FLOPs.

Points (src/geoladder/published/points.csv) are all that is drawn in a chart, by its number in the September revision;
of charts in both versions, the vector one. `plotted` is the chart's number; `value` is what it stands for, the square
root of a mean squared error drawn among root mean squares. `low` and `high` hold what rounding in the paper and the
reading of the chart leave open. `defect` names what is wrong with a point, if anything:

- `squared`: a mean squared error in a chart of its roots;
- `duplicate`: a series shown under two names;
- `disagrees`: the same model, task and n has another value in another chart, by more than both errors;
- `rounded`: known from so few digits that `high` is over 1 % above `low`.

Models (src/geoladder/published/models.csv) are those of these points, with FLOPs as the text prints them; `drawn` are
the numbers of the charts against FLOPs, where there are any.

Runs (studies/claims/published.csv), for claims:

- Kept are RMSE (roads, buildings) and overall accuracy (land cover), the latter as 1 - accuracy, at a stated n.
- A model shown in several places counts once for each task and n: vector charts before raster charts before prose,
  then sep24 before v1 before v5, then the first in the file. So one model's curve can mix sources where its charts
  hide points; `figure` and `extraction` say which.
- Three points are mean squared errors drawn into RMSE charts. Their y is the square root; `plotted` keeps the chart's
  number and `note` says so.
- Every run is single: the paper repeats none. `seed` is empty.
- A size the paper does not state is `unstated`.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd

TASKS = {"road_density": "roads", "building_density": "buildings", "land_cover": "landcover"}
ARMS = {
    "U-Net 44M-0.5T": ("globe", "unet", "44M"),
    "U-Net 44M-2T": ("fasttom", "unet", "44M"),
    "U-Net 44M-23T": ("majortom", "unet", "44M"),
    "U-Net 200M-2T": ("fasttom", "unet", "200M"),
    "U-Net random init": ("none", "unet", "unstated"),
    "ViT UPerNet 300M-0.5T": ("globe", "vit_upernet", "300M"),
    "ViT UPerNet 100M-2T": ("fasttom", "vit_upernet", "100M"),
    "ViT UPerNet 100M-23T": ("majortom", "vit_upernet", "100M"),
    "ViT UPerNet P16 100M-2T": ("fasttom", "vit_upernet_p16", "100M"),
    "ViT UPerNet P16 300M ImageNet": ("imagenet", "vit_upernet_p16", "300M"),
    "ViT UPerNet P8 100M-2T": ("fasttom", "vit_upernet_p8", "100M"),
    "ViT UPerNet P8 100M ImageNet": ("imagenet", "vit_upernet_p8", "100M"),
    "ViT-CNN 300M-0.5T": ("globe", "vit_cnn", "300M"),
    "ViT-CNN-GC 0.5T": ("globe", "vit_cnn_gc", "unstated"),
    "RS3Mamba 168M-2T": ("fasttom", "rs3mamba", "168M"),
    "RS3Mamba 168M ImageNet": ("imagenet", "rs3mamba", "168M"),
    "Mamba2D 41M ImageNet": ("imagenet", "mamba2d", "41M"),
    "Mamba UPerNet P16 100M": ("imagenet", "mamba_upernet", "100M"),
    "Mamba 43M-2T": ("fasttom", "mamba", "43M"),
    "TerraMind v1.0-B": ("terramesh", "terramind", "100M"),
    "TerraMind v1.0-L": ("terramesh", "terramind", "300M"),
    "Prithvi-EO-2.0 600M TL": ("hls", "prithvi", "600M"),
}
REGISTERED = {"unet": "geoaware_unet", "vit_upernet_p16": "vit_upernet", "vit_upernet_p8": "vit_upernet"}
"""Architectures of the project by those of the runs, where they differ; the paper's U-Net is the Geo-Aware one."""
UNREGISTERED = {"vit_cnn", "vit_cnn_gc", "mamba"}
FLOPS = {
    "U-Net 44M-0.5T": "Geo-Aware U-Net 44M",
    "U-Net 44M-2T": "Geo-Aware U-Net 44M",
    "U-Net 44M-23T": "Geo-Aware U-Net 44M",
    "U-Net 200M-2T": "Geo-Aware U-Net 200M",
    "ViT UPerNet 100M-2T": "ViT UPerNet 100M (P4)",
    "ViT UPerNet 100M-23T": "ViT UPerNet 100M (P4)",
    "ViT UPerNet P16 100M-2T": "ViT UPerNet P16 100M",
    "ViT UPerNet P16 300M ImageNet": "ViT-L UPerNet P16 300M ImageNet",
    "RS3Mamba 168M-2T": "RS3Mamba 168M",
    "RS3Mamba 168M ImageNet": "RS3Mamba 168M",
    "Mamba2D 41M ImageNet": "Mamba2D 41M",
    "Prithvi-EO-2.0 600M TL": "Prithvi-EO-2.0 ViT-H 600M",
}
"""Rows of FLOPS.csv by model, where they differ."""
IN_FLOPS_CHARTS = {"U-Net 44M-2T", "U-Net 200M-2T", "TerraMind v1.0-B", "Prithvi-EO-2.0 600M TL"}
IN_FLOPS_CHARTS |= {"ViT UPerNet P16 300M ImageNet", "Mamba UPerNet P16 100M"}
AS_DRAWN = " (as plotted)"
PREFERRED = {"extraction": ["vector", "raster", "prose"], "source_version": ["sep24", "v1", "v5"]}
SQUARED = "looks like MSE plotted in an RMSE chart"
KEY = ["task", "corpus", "architecture", "size", "n"]
COLUMNS = [*KEY, "seed", "y", "metric", "plotted", "model", "version", "figure", "extraction", "note"]
POINT = ["figure", "task", "metric", "class", "model", "n"]
POINT_COLUMNS = [*POINT, "value", "low", "high", "plotted", "version", "extraction", "defect", "note"]
CLEARLY = 1.01
"""Ratio of `high` to `low` from which a point counts as rounded."""
DIGITS = 6


def convert(results: pd.DataFrame) -> pd.DataFrame:
    """Points of charts, as read, to one row for each model, task and n."""
    rows = results[results.metric.isin(["rmse", "accuracy"]) & results.n_shot.str.fullmatch(r"\d+")].copy()
    for column, order in PREFERRED.items():
        rows[column] = pd.Categorical(rows[column], order)
    rows = rows.sort_values(list(PREFERRED), kind="stable")
    rows[["corpus", "architecture", "size"]] = [ARMS[model] for model in rows.model]
    rows = rows.assign(task=rows.task.map(TASKS), n=rows.n_shot.astype(int), seed="", plotted=rows.value)
    value = rows.value.astype(float)
    squared = rows.note.str.contains(SQUARED, regex=False)
    y = np.where(rows.metric == "accuracy", 1 - value, np.where(squared, np.sqrt(value), value))
    rows["note"] = rows.note.where(~squared, "y is the square root of the plotted value; " + rows.note)
    rows["y"] = np.round(y, 6)
    rows["metric"] = rows.metric.map({"rmse": "rmse", "accuracy": "error"})
    rows = rows.rename(columns={"source_version": "version"})
    return rows.drop_duplicates(KEY).sort_values(KEY, kind="stable")[COLUMNS].reset_index(drop=True)


def points_of(results: pd.DataFrame) -> pd.DataFrame:
    """Points of charts, as read, to one row for each chart of the September revision, model, class and n."""
    rows = results.rename(columns={"source_version": "version", "value": "plotted", "n_shot": "n"}).copy()
    number = r"sep24 Fig (\d+)|^Fig (\d+)$"
    numbers = rows.figure.str.extract(number)
    rows["figure"] = numbers[0].fillna(numbers[1]).fillna("0").astype(int)
    rows = rows[rows.figure > 0]
    rows[["metric", "class"]] = rows.metric.str.extract(r"^(\w+)(?:\[(.*)\])?$").fillna("")
    rows["version"] = pd.Categorical(rows.version, PREFERRED["source_version"])
    rows = rows.sort_values("version", kind="stable").assign(task=rows.task.map(TASKS), n=rows.n.astype(int))
    rows = rows.drop_duplicates(POINT).reset_index(drop=True)
    squared = rows.note.str.contains(SQUARED, regex=False)
    value = rows.plotted.astype(float)
    rows["value"] = np.where(squared, np.sqrt(value), value).round(DIGITS)
    rows[["low", "high"]] = [
        _bounds(row.value, float(row.est_abs_error), row.note, row.n) for row in rows.itertuples()
    ]
    rows["defect"] = np.select(
        [squared, _shown_twice(rows), _disagree(rows), rows.high > CLEARLY * rows.low],
        ["squared", "duplicate", "disagrees", "rounded"],
        "",
    )
    rows.loc[rows.metric == "precision", "defect"] = ""  # their bounds are the reading's alone
    return rows.sort_values(POINT, kind="stable")[POINT_COLUMNS].reset_index(drop=True)


def _bounds(value: float, read_error: float, note: str, n: int) -> tuple[float, float]:
    """What the digits of the source and the reading of the chart leave open."""
    if mse := re.search(r"sqrt\(MSE rounded to (\d) decimals = ([\d.]+)\)", note):
        half, center = 0.5 * 10.0 ** -int(mse[1]), float(mse[2])
    elif mse := re.search(r"consistent with sqrt\(MSE=([\d.]+)\)", note):
        half, center = 0.0005, float(mse[1])
    else:
        decimals = re.search(r"source value rounded \((\d) decimals", note)
        half = 0.5 * 10.0 ** -int(decimals[1]) if decimals else 0.0
        if decimals and n >= 1000 and round(value, 3) != round(value, 2):
            half = 0.0005
        error = max(half, read_error)
        return round(value - error, DIGITS), round(value + error, DIGITS)
    return round(np.sqrt(center - half), DIGITS), round(np.sqrt(center + half), DIGITS)


def _disagree(rows: pd.DataFrame) -> pd.Series:
    """Whether a model has bounds at the same task and n in another chart that do not meet a point's."""
    of_point = rows.groupby(["task", "metric", "class", "model", "n"])
    return (rows.low > of_point.high.transform("min")) | (rows.high < of_point.low.transform("max"))


def _shown_twice(rows: pd.DataFrame) -> pd.Series:
    """Whether another model has the very series of a point's."""
    series = rows.groupby(["task", "metric", "class", "model", "figure"]).plotted.transform("|".join)
    return rows.groupby([rows.task, rows.metric, series]).model.transform("nunique") > 1


def models_of(flops: pd.DataFrame) -> pd.DataFrame:
    """FLOPs of models, as read, to one row for each model of the points."""
    of_name = flops.set_index("model")
    rows = []
    for model, (corpus, architecture, size) in ARMS.items():
        row = of_name.loc[name].to_dict() if (name := FLOPS.get(model, model)) in of_name.index else {}
        drawn = of_name.loc[name + AS_DRAWN] if name + AS_DRAWN in of_name.index else row
        in_charts = model in IN_FLOPS_CHARTS
        rows.append(
            {
                "model": model,
                "architecture": ""
                if architecture in UNREGISTERED
                else REGISTERED.get(architecture, architecture),
                "corpus": corpus,
                "size": "" if size == "unstated" else size,
                "gflops_fwd": row.get("gflops", ""),
                "drawn_gflops_fwd": drawn["gflops"] if in_charts else "",
                "drawn_rmse": row["fig8_mean_rmse_repo"] if in_charts else "",
                "drawn_accuracy": row["fig9_mean_acc_repo"] if in_charts else "",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Read the points, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="points of the charts, one a row")
    parser.add_argument("flops", type=Path, help="FLOPs of the models, one a row")
    options = parser.parse_args()
    results, flops = (
        pd.read_csv(p, dtype=str, keep_default_na=False) for p in (options.results, options.flops)
    )
    root = Path(__file__).parents[1]
    for path, table in (
        ("src/geoladder/published/points.csv", points_of(results)),
        ("src/geoladder/published/models.csv", models_of(flops)),
        ("studies/claims/published.csv", convert(results)),
    ):
        table.to_csv(root / path, index=False)
        print(f"{len(table)} rows written to {path}")


if __name__ == "__main__":
    main()
