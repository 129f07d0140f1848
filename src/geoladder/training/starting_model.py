"""The model a fine-tuning run starts from, and which of its weights the run leaves as they are.

Every arm of a study gets, for one architecture and seed, the same initial head, and the same weights in place of
those it does not take over from a pretrained model.
"""

from pathlib import Path

import torch
from torch import nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.study.downstream_specs import FinetuneSpec, LinearSpec
from geoladder.training.checkpoints import load_backbone


def build_model(spec: FinetuneSpec, checkpoint: Path | None, prior: list[float]) -> FinetuneModel:
    """Backbone (pretrained or not) and a fresh head whose outputs start at `prior`, one number each.

    The initial head and, from scratch, the initial backbone depend on the seed alone. Frozen parts take no gradient.

    Raises:
        GeoladderError: the spec and the checkpoint do not go together.
    """
    backbone = seeded_backbone(spec, checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)  # the head must not depend on how many numbers the backbone drew
        model = FinetuneModel(backbone, TASKS[spec.task].outputs, prior)
        if checkpoint is not None:
            _take_over(backbone, checkpoint, spec)
    for part in frozen_parts(model, spec.mode):
        part.requires_grad_(False)
    return model


def seeded_backbone(spec: FinetuneSpec | LinearSpec, checkpoint: Path | None) -> Backbone:
    """A new backbone, which the seed alone makes; weights of a checkpoint are not in it yet.

    Raises:
        GeoladderError: the spec and the checkpoint do not go together: one is of a pretrained model, one is not.
    """
    if (checkpoint is None) != (spec.pretrained is None):
        raise GeoladderError(
            f"the spec of {spec.architecture}-{spec.size} from {spec.corpus} says pretrained: {spec.pretrained}, but "
            f"the checkpoint given is {checkpoint}; give --checkpoint exactly for cells that are pretrained"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return build_backbone(spec.architecture, spec.size)


def _take_over(backbone: Backbone, checkpoint: Path, spec: FinetuneSpec) -> None:
    """Load the pretrained weights that the spec transfers; all of them must fit, also those it leaves."""
    if spec.transfer == "all":
        load_backbone(backbone, checkpoint, spec)
        return
    pretrained = build_backbone(spec.architecture, spec.size)
    load_backbone(pretrained, checkpoint, spec)
    backbone.encoder.load_state_dict(pretrained.encoder.state_dict())


def frozen_parts(model: FinetuneModel, mode: str) -> list[nn.Module]:
    """Modules a mode leaves as they are: `frozen` the encoder, `probe` all but the last 1x1 convolution."""
    if mode == "full":
        return []
    return [model.backbone if mode == "probe" else model.backbone.get_submodule("encoder")]


def start_training(model: FinetuneModel, mode: str) -> None:
    """Training mode; but norms of frozen parts keep their statistics, too."""
    model.train()
    for part in frozen_parts(model, mode):
        part.eval()
