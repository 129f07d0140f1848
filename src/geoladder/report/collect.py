"""All results in one tidy table, one row per run and metric; results of another configuration are refused."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.provenance import code_fingerprint

SHOWN = 20
RUN_COLUMNS = [
    "stage", "corpus", "fraction", "architecture", "size", "task", "mode", "seed", "draw", "n",
    "parameters_total", "parameters_encoder", "parameters_no_norm", "unique_pixels", "unique_chips",
    "samples_seen", "gflops_train", "lr", "steps", "seconds", "commit", "dirty", "fingerprint", "code", "older_code",
]  # fmt: skip


def collect(ledger: Path, out: Path, root: Path) -> None:
    """Gather the results a ledger names: JSON, result file (relative to `root`) to the fingerprint it must carry.

    The CSV `out` has `RUN_COLUMNS`, `bucket` (`all` or a region bucket), `metric` and `value`, unrounded. Linear
    heads, which are many, have all buckets together there, and each in their files. Raises GeoladderError where
    results are missing, or were made by another configuration; says how to make them again.
    """
    expected: dict[str, str] = json.loads(ledger.read_text())
    missing = [file for file in expected if not (root / file).is_file()]
    if missing:
        raise GeoladderError(
            f"{len(missing)} results are missing:\n{_listed(missing)}\nRun snakemake to make them."
        )
    results = {file: _read(root / file) for file in expected}
    stale = [file for file, result in results.items() if result["fingerprint"] != expected[file]]
    if stale:
        raise GeoladderError(
            f"{len(stale)} results were made by another configuration (Snakemake's memory of them was lost):\n"
            f"{_listed(stale)}\nMake them again with:\n"
            f"  snakemake --cores all results/figures/scaling.pdf --forcerun {' '.join(stale)}"
        )
    rows = []
    for file, result in sorted(results.items()):
        run = _run(file.split("/")[1], result)
        for point in result.get("points", [result]):
            row = run | {name: point[name] for name in ("draw", "n") if name in point}
            for bucket, metrics in {"all": point["metrics"], **result.get("by_bucket", {})}.items():
                rows += [
                    row | {"bucket": bucket, "metric": name, "value": value}
                    for name, value in metrics.items()
                ]
    with atomic_path(out) as path:
        pd.DataFrame(rows, columns=[*RUN_COLUMNS, "bucket", "metric", "value"]).to_csv(path, index=False)


def older_code(stage: str, spec: dict[str, Any], born: dict[str, Any]) -> bool:
    """Whether a training run was made by code of its stage (its folder below `results`) that has changed since."""
    trained_by = stage if stage in ("finetune", "linear") else "pretrain"
    tasks = [spec["task"]] if "task" in spec else spec["objective"].get("tasks", [])
    return born.get("code") != code_fingerprint(trained_by, spec["architecture"], *tasks)


def _read(file: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(file.read_text())
        measured = "points" if "points" in result else "metrics"
        missing = {"fingerprint", "spec", "provenance", measured} - set(result)
    except (ValueError, TypeError) as problem:
        raise GeoladderError(f"{file} is no readable result ({problem}); delete it and run again") from None
    if missing:
        raise GeoladderError(f"{file} lacks {', '.join(sorted(missing))}; delete it and run again")
    return result


def _listed(files: list[str]) -> str:
    more = f"\n  ... and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return "\n".join(f"  {file}" for file in files[:SHOWN]) + more


def _run(stage: str, result: dict[str, Any]) -> dict[str, Any]:
    """Columns that say which run a row is of."""
    spec, born = result["spec"], result["provenance"]
    run = {name: result.get(name, spec.get(name)) for name in RUN_COLUMNS}
    run |= {"stage": stage, "commit": born["commit"], "dirty": born["dirty"], "code": born.get("code")}
    run["fraction"] = float(Fraction(spec["fraction"])) if spec.get("fraction") else None
    if "parameters" in result:
        counted = result["parameters"]
        run["parameters_total"] = counted["total"]
        run["parameters_encoder"] = counted["encoder"]
        run["parameters_no_norm"] = counted["total"] - counted["norm"]
        run["older_code"] = older_code(stage, spec, born)
    return run
