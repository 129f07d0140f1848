"""The study's pretraining cells as a text table: what `geoladder cells` prints before anything runs."""

import pandas as pd

from geoladder.cost.rung_cost import rung_cost
from geoladder.study.nodes import Nodes
from geoladder.study.study import Study


def cells_table(study: Study) -> str:
    """One line per pretraining cell: parameters, learning rate, steps, samples; then the totals.

    Raises:
        GeoladderError: a size is not in the ladder.
    """
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
        for cell, spec in zip(study.cells(), nodes.pretrain.values(), strict=True)
    ]
    table = pd.DataFrame(rows).to_string(index=False)
    return (
        f"{table}\n\n{len(rows)} pretraining cells, {len(nodes.finetune)} fine-tuning runs, "
        f"{len(nodes.trivial)} trivial baselines"
    )
