"""The check's rows as CSV and markdown, with the machine they are from."""

import platform
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarks.gpu.check import Row

from geoladder.models import causal_conv, scan, wavefront
from geoladder.runs.atomic import atomic_path
from geoladder.runs.provenance import birth_certificate


def environment(device: str) -> dict[str, Any]:
    """What the numbers depend on: card, memory, versions, backends of the kernels, commit and day."""
    properties = torch.cuda.get_device_properties(0) if device == "cuda" else None
    return {
        "device": properties.name if properties else f"cpu, {torch.get_num_threads()} threads",
        "memory_bytes": properties.total_memory if properties else 0,
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "python": platform.python_version(),
        "selective_scan": str(scan.choose_backend(device)),
        "causal_convolution": str(causal_conv.choose_backend(device)),
        "wavefront_scan": str(wavefront.choose_backend(device)),
        "commit": birth_certificate("gpu check", "")["commit"],
        "day": time.strftime("%Y-%m-%d"),
    }


def slug(device_name: str) -> str:
    """Name of a card as a file name: `NVIDIA GeForce RTX 4090` is `nvidia-geforce-rtx-4090`."""
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")


def line(part: str, row: Row) -> str:
    """A row for the terminal."""
    value = "-" if row.value is None else f"{row.value:.4g} {row.unit}".removesuffix(" 1")
    verdict = {True: f"ok ({row.limit})", False: f"FAILED ({row.limit})", None: ""}[row.ok]
    return f"  {part}: {row.item}, {row.setting}: {row.quantity} {value} {verdict} {row.note}".rstrip()


def write(path: Path, results: list[tuple[str, Row]], facts: dict[str, Any]) -> None:
    """Write `path`.csv and `path`.md anew; neither is ever half-written."""
    rows = pd.DataFrame([{"part": part, **row._asdict()} for part, row in results])
    provenance = ("device", "torch", "commit", "day")
    with atomic_path(path.with_name(path.name + ".csv")) as temporary:
        rows.assign(**{key: facts[key] for key in provenance}).to_csv(temporary, index=False)
    failed = rows[rows["ok"].eq(False)]
    lines = [
        f"# {facts['device']}",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        f"- rows: {len(rows)}, of which {len(failed)} failed and {int(rows['value'].isna().sum())} were not measured",
    ]
    for part, group in rows.groupby("part", sort=False):
        lines += [
            "",
            f"## {part}",
            "",
            "| what | how | quantity | value | unit | limit | note |",
            "|---" * 7 + "|",
        ]
        for row in group.itertuples():
            value = "-" if pd.isna(row.value) else f"{row.value:.4g}"
            limit = f"{row.limit}: {'ok' if row.ok else 'FAILED'}" if row.limit else ""
            lines.append(
                f"| {row.item} | {row.setting} | {row.quantity} | {value} | {row.unit} | {limit} | {row.note} |"
            )
    with atomic_path(path.with_name(path.name + ".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
