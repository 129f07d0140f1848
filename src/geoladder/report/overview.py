"""A study as text tables: the cells it means, before anything runs, and which of its results are there."""

from pathlib import Path

import pandas as pd

from geoladder.cost.rung_cost import rung_cost
from geoladder.errors import GeoladderError
from geoladder.report.collect import older_code, read_result
from geoladder.study.nodes import STAGES, Nodes
from geoladder.study.study import Study


def cells_table(study: Study) -> str:
    """A line per pretraining cell: parameters, learning rate, steps, samples; then the totals; raises as `Nodes`."""
    nodes = Nodes(study)
    rows = [
        cell._asdict()
        | {
            "parameters": f"{rung_cost(cell.architecture, cell.size, study.cleaning.chip_px).parameters:,}",
            "lr": f"{spec.lr:.3g}",
            "steps": -(-spec.samples // spec.batch),
            "samples": f"{spec.samples:,}",
            "fingerprint": spec.fingerprint,
        }
        for cell, spec in zip(
            [*study.cells(), *study.oracle_cells()],
            [*nodes.pretrain.values(), *nodes.oracle.values()],
            strict=True,
        )
    ]
    return (
        f"{pd.DataFrame(rows).to_string(index=False)}\n\n{len(rows)} pretraining cells, "
        f"{len(nodes.finetune)} fine-tuning runs, {len(nodes.linear_cells)} encoders with linear heads, "
        f"{len(nodes.trivial)} trivial baselines"
    )


def status_table(study: Study, root: Path) -> str:
    """Counts by stage and state; then every result that is not current, with its state.

    States: `current`, `missing`, `damaged` (or edited), `other configuration` (reruns), `older code` (made by code
    that has changed since; reruns only where the study's `code_changes` says so).
    """
    nodes = Nodes(study)
    rows = [
        (stage, file, _state(root / file, spec.fingerprint, stage))
        for stage in STAGES
        for file, spec in getattr(nodes, stage).items()
    ]
    table = pd.DataFrame(rows, columns=["stage", "result", "state"])
    counts = table.groupby(["stage", "state"], sort=False).size().rename("results").reset_index()
    stale = table[~table.state.isin(["current", "missing"])]
    listed = "\n\n" + stale[["state", "result"]].to_string(index=False) if len(stale) else ""
    return counts.to_string(index=False) + listed


def _state(file: Path, fingerprint: str, stage: str) -> str:
    if not file.exists():
        return "missing"
    try:
        result = read_result(file)
    except GeoladderError:
        return "damaged"
    if result["fingerprint"] != fingerprint:
        return "other configuration"
    if stage != "trivial" and older_code(stage, result["spec"], result["provenance"]):
        return "older code"
    return "current"
