"""All results in one tidy table, one row per run and metric; results of another configuration are refused."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import intact
from geoladder.runs.provenance import code_fingerprint
from geoladder.runs.remake import remake
from geoladder.study.nodes import STAGES
from geoladder.text import read_object

SHOWN = 20
STAGE_FOLDERS = {*STAGES, "gates", "sweep"}
RUN_COLUMNS = [
    "stage", "corpus", "fraction", "architecture", "size", "mode", "transfer", "task", "seed", "draw", "n",
    "train_patches",
    "parameters_total", "parameters_encoder", "parameters_no_norm", "unique_pixels", "unique_chips",
    "samples_seen", "gflops_train", "lr", "steps", "best_step", "settled", "seconds",
    "commit", "dirty", "fingerprint", "code", "older_code",
]  # fmt: skip
NEEDED = ["stage", "architecture", "size", "metric", "value"]
MEASURED = ["bucket", "metric", "value", "low", "high"]


def collect(ledger: Path, out: Path, root: Path) -> None:
    """Gather the results a ledger names: JSON, result file (relative to `root`) to the fingerprint it must carry.

    The CSV `out` has `RUN_COLUMNS`, `bucket` (`all` or a region bucket), `metric` and `value`, unrounded, and `low`
    and `high`, 95 % by a bootstrap over test tiles, where there are any. Metrics of single classes, such as
    `iou_tree`, and linear heads, which are many, have all buckets together there, and each in their files. Raises
    GeoladderError where results are missing, or were made by another configuration; says how to make them again.

    A copy of the ledger goes beside the CSV, as `ledger.json`.
    """
    expected: dict[str, str] = read_object(intact(ledger))
    missing = [file for file in expected if not (root / file).is_file()]
    if missing:
        raise GeoladderError(
            f"{len(missing)} results are missing:\n{_listed(missing)}\nRun snakemake to make them."
        )
    results = {file: read_result(root / file) for file in expected}
    stale = [file for file, result in results.items() if result["fingerprint"] != expected[file]]
    if stale:
        raise GeoladderError(
            f"{len(stale)} results were made by another configuration (Snakemake's memory of them was lost):\n"
            f"{_listed(stale)}\n{remake(*map(Path, stale))}"
        )
    rows = []
    for file, result in sorted(results.items()):
        run = _run(next(part for part in Path(file).parts if part in STAGE_FOLDERS), result)
        for point in result.get("points", [result]):
            row = run | {name: point[name] for name in ("draw", "n", "train_patches") if name in point}
            rows += [row | measured for measured in _measured(point, run["stage"] != "linear")]
    with atomic_path(out) as path:
        pd.DataFrame(rows, columns=[*RUN_COLUMNS, *MEASURED]).to_csv(path, index=False)
    with atomic_path(out.with_name("ledger.json")) as path:
        path.write_bytes(ledger.read_bytes())


def read_results(path: Path) -> pd.DataFrame:
    """What `collect` wrote; each column is read as a whole, since stages leave different ones empty.

    Raises GeoladderError where the file was damaged or edited, is missing, or no table of results.
    """
    try:
        table = pd.read_csv(intact(path), low_memory=False, encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no table of results ({problem}); {remake(path)}") from None
    if missing := [name for name in NEEDED if name not in table]:
        raise GeoladderError(f"{path} lacks the columns {', '.join(missing)}; {remake(path)}")
    return table


def _measured(point: dict[str, Any], by_bucket: bool) -> Iterator[dict[str, Any]]:
    """`MEASURED` of each metric of one result, or of one of its points, of buckets only if `by_bucket`."""
    intervals = point.get("intervals", {})
    for name, value in point["metrics"].items():
        low, high = intervals.get(name, (None, None))
        yield {"bucket": "all", "metric": name, "value": value, "low": low, "high": high}
    for bucket, metrics in point.get("by_bucket", {}).items() if by_bucket else ():
        for name, value in metrics.items():
            yield {"bucket": bucket, "metric": name, "value": value}
    for label, measures in point.get("details", {}).get("all", {}).get("by_class", {}).items():
        for name, value in measures.items():
            yield {"bucket": "all", "metric": f"{name}_{label}", "value": value}


def older_code(stage: str, spec: dict[str, Any], born: dict[str, Any]) -> bool:
    """Whether a training run was made by code of its stage (its folder below `results`) that has changed since."""
    trained_by = {"finetune": "finetune", "gates": "finetune", "linear": "linear"}.get(stage, "pretrain")
    tasks = [spec["task"]] if "task" in spec else spec.get("objective", {}).get("tasks", [])
    return born.get("code") != code_fingerprint(trained_by, spec["architecture"], *tasks)


def read_result(file: Path) -> dict[str, Any]:
    """Result of one run; raises GeoladderError where it is damaged, or a key is missing or holds something else."""
    intact(file)
    try:
        result = read_object(file)
    except GeoladderError as problem:
        raise GeoladderError(f"{file} is no readable result ({problem}); {remake(file)}") from None
    kinds = {"fingerprint": str, "spec": dict, "provenance": dict, "metrics": dict}
    if "points" in result:
        kinds |= {"points": list}
        del kinds["metrics"]
    wrong = [name for name, kind in kinds.items() if not isinstance(result.get(name), kind)]
    points = result.get("points", [])
    if not wrong and not all(
        isinstance(point, dict) and isinstance(point.get("metrics"), dict) for point in points
    ):
        wrong = ["points"]
    if wrong:
        raise GeoladderError(
            f"{file} lacks {', '.join(wrong)}, or holds something else there; {remake(file)}"
        )
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
