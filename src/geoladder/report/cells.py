"""The study's pretraining cells as a text table: what `geoladder cells` prints before anything runs."""

import pandas as pd

from geoladder.counting import count_parameters
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.study.nodes import Nodes
from geoladder.study.study import Study


def parameters_of(architecture: str, size: str) -> int:
    """Total parameters of a rung with its pretraining heads, counted without allocating it."""
    import torch

    with torch.device("meta"):
        return count_parameters(PretrainModel(build_backbone(architecture, size)))["total"]


def cells_table(study: Study) -> str:
    """One line per pretraining cell: parameters, learning rate, steps, samples; then the totals.

    Raises:
        GeoladderError: a size is not in the ladder.
    """
    nodes = Nodes(study)
    counted: dict[tuple[str, str], int] = {}
    rows = []
    for cell, spec in zip(study.cells(), nodes.pretrain.values(), strict=True):
        rung = (cell.architecture, cell.size)
        counted[rung] = counted.get(rung) or parameters_of(*rung)
        rows.append(
            {
                "corpus": cell.corpus,
                "architecture": cell.architecture,
                "size": cell.size,
                "seed": cell.seed,
                "parameters": f"{counted[rung]:,}",
                "lr": f"{spec.lr:.3g}",
                "steps": -(-spec.samples // spec.batch),
                "samples": f"{spec.samples:,}",
                "fingerprint": spec.fingerprint,
            }
        )
    table = pd.DataFrame(rows).to_string(index=False)
    return (
        f"{table}\n\n{len(rows)} pretraining cells, {len(nodes.finetune)} fine-tuning runs, "
        f"{len(nodes.trivial)} trivial baselines"
    )
