"""Converts the published few-shot curves to the table of runs that `geoladder claims` reads.

    python tools/convert_published.py RESULTS.csv studies/claims/published.csv

The numbers were digitised from the charts of arXiv 2506.14765, "Scaling-Up the Pretraining of the Earth Observation
Foundation Model PhilEO to the MajorTOM Dataset" (v1, June 2025) and its September 2025 revision (sep24, v4 in
content); a few are from its prose. RESULTS.csv has one row a point: source_version, figure, task, metric, model,
n_shot, value, extraction, note and others. Rules:

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
PREFERRED = {"extraction": ["vector", "raster", "prose"], "source_version": ["sep24", "v1", "v5"]}
SQUARED = "looks like MSE plotted in an RMSE chart"
KEY = ["task", "corpus", "architecture", "size", "n"]
COLUMNS = [*KEY, "seed", "y", "metric", "plotted", "model", "version", "figure", "extraction", "note"]


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


def main() -> None:
    """Read the points, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="points of the charts, one a row")
    parser.add_argument("out", type=Path, help="table of runs to write")
    options = parser.parse_args()
    table = convert(pd.read_csv(options.results, dtype=str, keep_default_na=False))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)
    print(
        f"{len(table)} runs of {table[KEY[1:4]].drop_duplicates().shape[0]} models written to {options.out}"
    )


if __name__ == "__main__":
    main()
