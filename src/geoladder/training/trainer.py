"""Lightning, set up once for both stages: only what is needed, and quiet.

A step costs 0.7 to 1.0 ms of one CPU core more than in a bare PyTorch loop: 4 to 7 % of the smallest rungs' steps at
batches of 16 chips of 32 px (benchmarks/overhead.py).
"""

import logging
import os
import sys
import warnings
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from geoladder.training.distributed import StrategyName, choose_strategy, kernels
from geoladder.training.precision import Precision, choose_precision
from geoladder.training.resume import AtomicIO

log = logging.getLogger(__name__)

SIGTERM_STATUS = 143
"""Exit status of a process ended by SIGTERM, as shells report it."""


class ClipGradients(Callback):
    """Scales gradients down to a largest norm.

    Lightning's own clipping refuses fused optimisers in mixed precision, because of gradient scalers; bf16 has none.
    """

    def __init__(self, norm: float) -> None:
        """Clip to `norm`, over all parameters together."""
        self._norm = norm

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Lightning calls this between the backward pass and the step."""
        clip_grad_norm_(pl_module.parameters(), self._norm)


def make_trainer(
    steps: int,
    precision: Precision,
    gradient_clip: float,
    callbacks: list[Callback] | None = None,
    logger: Logger | None = None,
    devices: int = 1,
    strategy: StrategyName = "auto",
    progress: bool = False,
) -> lightning.Trainer:
    """A trainer of a fixed number of steps.

    Args:
        steps: optimiser steps.
        precision: as the study asks for it.
        gradient_clip: largest norm of the gradient.
        callbacks: what else happens on the way; checkpoints are written only where one of them does.
        logger: gets the log besides; the caller keeps its own.
        devices: GPUs, or CPU processes, over all nodes.
        strategy: `auto`, `ddp` or `fsdp`.
        progress: draw a progress bar, if this is a terminal.

    Raises:
        GeoladderError: bf16 is asked for on a GPU that lacks it, or there are fewer GPUs than devices.
    """
    # Notes on the devices found, and tips.
    for chatty in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    callbacks = [ClipGradients(gradient_clip), *(callbacks or [])]
    bar = progress and sys.stderr.isatty()
    if bar:
        callbacks.append(RichProgressBar())
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))  # torchrun says so
    format_, spread = choose_precision(precision), choose_strategy(strategy, devices, nodes)
    _say("precision %s (%s); %s (%s)", *format_, *spread[1:])
    return lightning.Trainer(
        accelerator="auto",
        devices=devices // nodes,
        num_nodes=nodes,
        strategy=spread.strategy,
        precision=format_.name,
        max_steps=steps,
        max_epochs=-1,
        logger=logger or False,
        callbacks=callbacks,
        # The workflow requeues jobs itself; Lightning's own detection of Slurm must not.
        plugins=[LightningEnvironment(), AtomicIO()],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def fit(
    trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: Path | None = None
) -> None:
    """Train, from a checkpoint if there is one, and leave the module on the trainer's device.

    Raises:
        SystemExit: of status 143, after SIGTERM; callbacks have saved what they wanted to.
    """
    device, threads = trainer.strategy.root_device, torch.get_num_threads()
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"no CUDA GPU; {threads} threads"
    _say("training on %s (%s); kernels: %s", device, what, kernels(module, device.type))
    with warnings.catch_warnings():
        # Lightning's use of an older torch function; nothing a user could mend.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        except SIGTERMException:
            raise SystemExit(SIGTERM_STATUS) from None
    module.to(trainer.strategy.root_device)


@rank_zero_only
def _say(text: str, *values: object) -> None:
    log.info(text, *values)
