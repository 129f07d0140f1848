"""Which results exist, which were made by another configuration, and which by older code."""

import json
from pathlib import Path

import pandas as pd

from geoladder.runs.provenance import code_fingerprint
from geoladder.study.nodes import Nodes
from geoladder.study.study import Study


def _state(file: Path, fingerprint: str, stage: str) -> str:
    if not file.exists():
        return "missing"
    result = json.loads(file.read_text())
    if result["fingerprint"] != fingerprint:
        return "other configuration"
    spec = result["spec"]
    if stage == "trivial" or result["provenance"]["code"] == code_fingerprint(
        stage, spec["architecture"], spec.get("task")
    ):
        return "current"
    return "older code"


def status_table(study: Study, root: Path) -> str:
    """Counts by stage and state; then every result that is not current, with its state.

    States: `current`, `missing`, `other configuration` (reruns), `older code` (made by code that has changed
    since; reruns only where the study's `code_changes` says so).
    """
    nodes = Nodes(study)
    rows = [
        {"stage": stage, "result": file, "state": _state(root / file, spec.fingerprint, stage)}
        for stage in ("pretrain", "finetune", "trivial")
        for file, spec in getattr(nodes, stage).items()
    ]
    table = pd.DataFrame(rows)
    counts = table.groupby(["stage", "state"], sort=False).size().rename("results").reset_index()
    stale = table[~table.state.isin(["current", "missing"])]
    listed = "\n\n" + stale[["state", "result"]].to_string(index=False) if len(stale) else ""
    return counts.to_string(index=False) + listed
