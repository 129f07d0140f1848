"""Pretraining objective (arXiv 2506.14765): masked reconstruction, and targets of whole chips."""

import torch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.models.heads import PretrainOutput
from geoladder.study.pretraining import Objective


class PretrainTerms(dict[str, torch.Tensor]):
    """Terms of the objective by name, each a mean over chips: masked_mse, visible_mse, and one of each target."""

    def total(self, objective: Objective) -> torch.Tensor:
        """Weighted sum."""
        pixels = objective.masked_weight * self["masked_mse"] + objective.visible_weight * self["visible_mse"]
        return sum(
            (use.weight * self[term_name(name, objective)] for name, use in objective.targets.items()), pixels
        )

    def stacked(self) -> torch.Tensor:
        """(terms,) values, for sums over batches and devices."""
        return torch.stack(list(self.values()))

    def with_values(self, values: torch.Tensor) -> "PretrainTerms":
        """The same terms with other values (terms,)."""
        return PretrainTerms(zip(self, values, strict=True))


def term_name(target: str, objective: Objective) -> str:
    """Name of a target's term, such as `geo_mse`."""
    return f"{target}_{objective.targets[target].entry.measure}"


def pretrain_terms(output: PretrainOutput, batch: PretrainBatch, objective: Objective) -> PretrainTerms:
    """Squared error on hidden and on visible pixels apart, and the loss of each target.

    Every chip hides the same number of pixels, so means over equally large batches pool to the mean over all. For
    the same reason a chip without truth counts as one without error.

    Args:
        output: of the model.
        batch: what it should have been.
        objective: its targets.
    """
    error = (output.reconstruction.float() - batch.pixels).square().mean(dim=1, keepdim=True)
    hidden = batch.mask.float()
    terms = PretrainTerms(
        masked_mse=(error * hidden).sum() / hidden.sum(),
        visible_mse=(error * (1 - hidden)).sum() / (1 - hidden).sum(),
    )
    for name, use in objective.targets.items():
        summed = use.entry.loss(output.targets[name].float(), batch.targets[name])
        terms[term_name(name, objective)] = summed / len(batch.pixels)
    return terms
