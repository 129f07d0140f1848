"""What the files of a bench say of their own numbers: DN offsets of dates, scales of labels, pixels without one."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from geoladder.data.index.evidence import MANY, MOST, Finding, counted
from geoladder.data.labels.bands import BOA_OFFSET_DN, DARKEST_OFFSET_DN, IMPOSSIBLE_OFFSET_DN
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Task

Harmonise = Literal["baseline", "pixels"] | None
"""What the study says of the offsets in the metadata: right, whatever pixels say, or wrong; None: nothing."""
Witness = dict[str, Any]
"""What a file says beside its row of the index: darkest_dn of each date, label_scale of the tile's record (None
without), and of each task the `Labels` of a sample of its patches."""
Labels = dict[str, float]
"""Numbers of pixels: labelled, nan, infinite, negative, other (too large, or no code), positive; and the scale that
the file shows by itself."""
KINDS = {
    "nan": "NaN",
    "infinite": "infinite",
    "negative": "negative",
    "other": "0, 255, too large or of no class",
}

MANY_POSITIVE = 1000
"""Labels above 0 that show the scale of a file: among so many m2 some are above 1.5."""
WAY_OUT = (
    "Mend metadata/tiles_metadata.json, or say how the bench is to be taken, as bench.harmonise: `pixels` (those of "
    f"each date decide whether it carries {BOA_OFFSET_DN} DN) or `baseline` (the metadata are right nevertheless)"
)


def count_labels(task: Task, stored: np.ndarray, scale: float) -> Labels:
    """What the pixels of some patches hold; raises GeoladderError as `Task.read`."""
    labelled = task.valid(task.read(stored, scale))
    number = ~np.isnan(stored)
    marks = {
        "nan": ~number,
        "infinite": np.isinf(stored),
        "negative": number & (stored < 0) & np.isfinite(stored),
    }
    counts = {name: int((where & ~labelled).sum()) for name, where in marks.items()}
    other = int((~labelled).sum()) - sum(counts.values())
    positive = int((labelled & (stored > 0)).sum())
    return {"labelled": int(labelled.sum()), **counts, "other": other, "positive": positive, "scale": scale}


def bench_findings(index: pd.DataFrame, witnesses: list[Witness], harmonise: Harmonise) -> list[Finding]:
    """All findings."""
    quantities = [task for task in TASKS.values() if not task.layer.categories]
    return [
        _offset(index, witnesses, harmonise),
        _place(index),
        *(_labels(task, index, witnesses) for task in TASKS.values() if index[f"has_{task.name}"].any()),
        *(finding(task, index, witnesses) for task in quantities for finding in (_scale, _scales)),
    ]


def _offset(index: pd.DataFrame, witnesses: list[Witness], harmonise: Harmonise) -> Finding:
    """Whether dates that carry a DN offset by the metadata have dark pixels, or most of many others have none."""
    by_date = [
        (file, source, offset, darkest)
        for (_, file, source, offsets), witness in zip(
            index[["file", "offset_source", "offset_dn"]].itertuples(name=None), witnesses, strict=True
        )
        for offset, darkest in zip(offsets, witness["darkest_dn"], strict=True)
    ]
    stated = [date for date in by_date if date[1] == "metadata" and not np.isnan(date[3])]
    margin_dn = BOA_OFFSET_DN - IMPOSSIBLE_OFFSET_DN
    wrong = [date for date in stated if date[2] and date[3] < date[2] - margin_dn]
    without = [date for date in stated if not date[2]]
    bright = [date for date in without if date[3] > DARKEST_OFFSET_DN]
    if len(without) >= MANY and len(bright) > MOST * len(without):
        wrong += bright
    says = {
        "metadata": counted([f"{offset} DN" for _, source, offset, _ in by_date if source == "metadata"]),
        "pixels": counted(
            [f"{offset} DN" for _, source, offset, _ in by_date if source == "pixels"]
            + [f"{darkest:.0f} DN where the metadata say {offset}" for _, _, offset, darkest in wrong]
        ),
    }
    remedy = "" if harmonise else WAY_OUT
    decision = "by pixels" if harmonise == "pixels" else "by metadata, and by pixels where there are none"
    first = wrong[0][0] if wrong else ""
    return Finding("DN offset of dates", decision, says, len(stated), len(wrong), first, remedy)


def _place(index: pd.DataFrame) -> Finding:
    """Which files lie where; archives cannot keep away from the others."""
    known = index["lat_deg"].notna()
    says = {"labels": {"a place": int(known.sum()), "none, or numbers of none": int((~known).sum())}}
    return Finding("place", "of label_coords", says, 0, 0)


def _labels(task: Task, index: pd.DataFrame, witnesses: list[Witness]) -> Finding:
    """How many pixels of a sample have a label, and what the others hold.

    Quantities of which none is above 0 beside large numbers are masks of 0 and 255: then 255 is all of a pixel, and
    no mark.
    """
    samples = [witness[task.name] for witness in witnesses if task.name in witness]
    sums = {kind: sum(sample[kind] for sample in samples) for kind in ("labelled", *KINDS)}
    files = {kind: sum(sample[kind] > 0 for sample in samples) for kind in KINDS}
    says = {
        "pixels": {"with a label": sums["labelled"]}
        | {f"{word}, in {files[kind]} files": sums[kind] for kind, word in KINDS.items() if sums[kind]},
        "scale": counted(index.loc[index[f"has_{task.name}"], f"{task.name}_scale"].tolist()),
    }
    question, decision = f"labels of {task.name}", "numbers that are no label are left out"
    if task.layer.categories or not sums["other"] or any(sample["positive"] for sample in samples):
        return Finding(question, decision, says, 0, 0)
    remedy = "Write fractions or m2, and NaN for pixels without a label"
    return Finding(question, f"{decision}, but then none is above 0", says, 1, 1, "", remedy)


def _scale(task: Task, index: pd.DataFrame, witnesses: list[Witness]) -> Finding:
    """Whether the metadata's scale of labels is what the bulk of positive labels says."""
    pairs = [
        (file, 1 / witness["label_scale"], scale)
        for file, scale, witness in zip(index["file"], index[f"{task.name}_scale"], witnesses, strict=True)
        if witness["label_scale"] and witness.get(task.name, {}).get("positive")
    ]
    wrong = [file for file, stated, scale in pairs if not np.isclose(stated, scale)]
    says = {
        "metadata": counted([f"{stated:g}" for _, stated, _ in pairs]),
        "pixels": counted([f"{scale:g}" for _, _, scale in pairs]),
    }
    remedy = (
        "Mend label_scale in metadata/tiles_metadata.json, or leave it out: then the labels' numbers tell"
    )
    first = wrong[0] if wrong else ""
    return Finding(
        f"scale of {task.name}", "by the bulk of the labels", says, len(pairs), len(wrong), first, remedy
    )


def _scales(task: Task, index: pd.DataFrame, witnesses: list[Witness]) -> Finding:
    """Whether files of a tile, which share a scale, are of one; those with few positive labels may not show it."""
    pairs = [
        (file, shared, witness[task.name]["scale"])
        for file, shared, witness in zip(index["file"], index[f"{task.name}_scale"], witnesses, strict=True)
        if witness.get(task.name, {}).get("positive", 0) >= MANY_POSITIVE
    ]
    wrong = [file for file, shared, scale in pairs if scale != shared]
    says = {"pixels": counted([f"{scale:g}" for _, _, scale in pairs])}
    question, remedy = f"scales of {task.name} within tiles", "Write labels in one unit, fractions or m2"
    return Finding(question, "the smallest", says, len(pairs), len(wrong), wrong[0] if wrong else "", remedy)


def stated_scale(record: object) -> float | None:
    """`label_scale` of a tile's record, None where it says none; raises GeoladderError where it is no scale."""
    scale = record.get("label_scale") if isinstance(record, dict) else None
    if scale is None or (isinstance(scale, int | float) and scale in (1, 100)):
        return scale
    raise GeoladderError(
        f"metadata/tiles_metadata.json has a label_scale of {scale!r}; 1 and 100 are allowed"
    )
