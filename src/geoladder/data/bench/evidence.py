"""What the files of a bench say of their own numbers: DN offsets of dates, scales of labels, pixels without one."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from geoladder.data.index.evidence import Finding, counted
from geoladder.data.labels.bands import BOA_OFFSET_DN, IMPOSSIBLE_OFFSET_DN
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Task

Witness = dict[str, Any]
"""What a file says beside its row of the index: file, darkest_dn of each date, label_scale of the tile's record (None
without), and of each task the `Labels` of a sample of its patches."""
Labels = dict[str, int]
"""Numbers of pixels: labelled, nan, infinite, negative, other (too large, or no code), positive."""
KINDS = {
    "nan": "NaN",
    "infinite": "infinite",
    "negative": "negative",
    "other": "0, 255, too large or of no class",
}

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
    return {"labelled": int(labelled.sum()), **counts, "other": other, "positive": positive}


def bench_findings(
    index: pd.DataFrame, witnesses: list[Witness], harmonise: Literal["baseline", "pixels"] | None
) -> list[Finding]:
    """All findings; `harmonise` is what the study says of the bench, so that metadata may contradict pixels."""
    return [
        _offset(index, witnesses, harmonise),
        *(_labels(task, index, witnesses) for task in TASKS.values() if index[f"has_{task.name}"].any()),
        *(_scale(task, index, witnesses) for task in TASKS.values() if not task.layer.categories),
    ]


def _offset(
    index: pd.DataFrame, witnesses: list[Witness], harmonise: Literal["baseline", "pixels"] | None
) -> Finding:
    """Whether dates that carry the DN offset by the metadata have dark pixels."""
    by_date = [
        (file, source, offset, darkest)
        for (_, file, source, offsets), witness in zip(
            index[["file", "offset_source", "offset_dn"]].itertuples(name=None), witnesses, strict=True
        )
        for offset, darkest in zip(offsets, witness["darkest_dn"], strict=True)
    ]
    stated = [date for date in by_date if date[1] == "metadata" and not np.isnan(date[3])]
    wrong = [date for date in stated if date[2] and date[3] < IMPOSSIBLE_OFFSET_DN]
    says = {
        "metadata": counted([f"{offset} DN" for _, source, offset, _ in by_date if source == "metadata"]),
        "pixels": counted(
            [f"{offset} DN" for _, source, offset, _ in by_date if source == "pixels"]
            + [f"below {IMPOSSIBLE_OFFSET_DN} DN, so without offset" for _ in wrong]
        ),
    }
    remedy = "" if harmonise else WAY_OUT
    decision = "by pixels" if harmonise == "pixels" else "by metadata, and by pixels where there are none"
    first = wrong[0][0] if wrong else ""
    return Finding("DN offset of dates", decision, says, len(stated), len(wrong), first, remedy)


def _labels(task: Task, index: pd.DataFrame, witnesses: list[Witness]) -> Finding:
    """How many pixels of a sample have a label, and what the others hold."""
    samples = [witness[task.name] for witness in witnesses if task.name in witness]
    sums = {kind: sum(sample[kind] for sample in samples) for kind in ("labelled", *KINDS)}
    files = {kind: sum(sample[kind] > 0 for sample in samples) for kind in KINDS}
    says = {
        "pixels": {"with a label": sums["labelled"]}
        | {f"{word}, in {files[kind]} files": sums[kind] for kind, word in KINDS.items() if sums[kind]},
        "scale": counted(index.loc[index[f"has_{task.name}"], f"{task.name}_scale"].tolist()),
    }
    return Finding(f"labels of {task.name}", "numbers that are no label are left out", says, 0, 0)


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


def stated_scale(record: object) -> float | None:
    """`label_scale` of a tile's record, None where it says none; raises GeoladderError where it is no scale."""
    scale = record.get("label_scale") if isinstance(record, dict) else None
    if scale is None or (isinstance(scale, int | float) and scale in (1, 100)):
        return scale
    raise GeoladderError(
        f"metadata/tiles_metadata.json has a label_scale of {scale!r}; 1 and 100 are allowed"
    )
