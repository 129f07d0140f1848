"""Lightning, set up once for both stages: only what is needed, quiet, with checkpoints that survive a kill.

A checkpoint is always of a whole step and never half-written, and the highest step alone is kept. Lightning's own
ModelCheckpoint promises neither: it moves files into place without fsync, maybe across file systems, and on any
exception it saves, also in the middle of a step.

A step costs 0.7 to 1.0 ms of one CPU core more than in a bare PyTorch loop: 4 to 7 % of the smallest rungs' steps at
batches of 16 chips of 32 px (benchmarks/overhead.py).
"""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning
import torch
from filelock import SoftFileLease
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path, check_held
from geoladder.training.distributed import choose_strategy, kernels
from geoladder.training.job import StrategyName

log = logging.getLogger(__name__)

Precision = Literal["auto", "32-true", "bf16-mixed"]
Resolved = Literal["32-true", "bf16-mixed"]
SIGTERM_STATUS = 143
"""Exit status of a process ended by SIGTERM, as shells report it."""


class Choice(NamedTuple):
    """What was chosen, and the reason in words."""

    name: Resolved
    reason: str


def choose_precision(wanted: Precision) -> Choice:
    """`auto` means bf16-mixed on GPUs that have bf16, 32-true elsewhere.

    CPUs are left at 32 bit even where they have bf16 units (AMX): on the rungs meant for them, autocast's casts cost
    what the matrix products save. Milliseconds of a training step on one AMX core, 32 chips of 32 px, 32 bit against
    bf16: U-Net of 31k parameters 19 / 19, of 465k 48 / 44; ViT of 13k 32 / 55, of 229k 76 / 92.

    Raises:
        GeoladderError: bf16 is asked for on a GPU that lacks it.
    """
    on_gpu = torch.cuda.is_available()
    if wanted == "bf16-mixed" and on_gpu and not gpu_has_bf16():
        raise GeoladderError(
            f"compute.precision is bf16-mixed, but {torch.cuda.get_device_name()} has no bf16 (NVIDIA has it from "
            "compute capability 8.0 on: A100, RTX 30 and later); use auto or 32-true"
        )
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if not on_gpu:
        return Choice("32-true", "auto, and no GPU")
    if gpu_has_bf16():
        return Choice("bf16-mixed", "auto, and the GPU has bf16")
    return Choice("32-true", "auto, and the GPU has no bf16")


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; torch would otherwise count a slow emulation, too."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


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
    number_format, spread = choose_precision(precision), choose_strategy(strategy, devices, nodes)
    _say("precision %s (%s); %s (%s)", *number_format, *spread[1:])
    return lightning.Trainer(
        accelerator="auto",
        devices=devices // nodes,
        num_nodes=nodes,
        strategy=spread.strategy,
        precision=number_format.name,
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
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"no CUDA GPU; {threads} threads"
    )
    _say("training on %s (%s); kernels: %s", device, machine, kernels(module, device.type))
    if checkpoint:
        _say("resuming from %s", checkpoint)
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


class AtomicIO(TorchCheckpointIO):
    """Lightning's checkpoint files, renamed into place once they are on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write `checkpoint` to `path`, all tensors contiguous.

        FSDP hands tensors out to ranks as plain memory, without a look at their strides.
        """
        plain = tree_map_only(Tensor, Tensor.contiguous, checkpoint)
        with atomic_path(path) as temporary:
            torch.save(plain, temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint; raises GeoladderError where it is damaged."""
        try:
            return super().load_checkpoint(path, *args, **kwargs)
        except Exception as problem:  # unpickling damaged bytes raises errors of any kind
            raise GeoladderError(
                f"checkpoint {path} cannot be read ({problem!r}); delete it to train this run from the start"
            ) from problem


class Saver(Checkpoint):
    """Saves every few steps, and when Lightning leaves the loop because of SIGTERM, which it does between steps.

    Being a `Checkpoint`, it runs after all other callbacks, so that what these have noted of a step is saved with it.
    """

    def __init__(self, folder: Path, every_steps: int, lease: SoftFileLease | None) -> None:
        """Save into `folder`, and stop if this job loses its `lease` of it (None on ranks that hold none)."""
        self._folder, self._every, self._lease = folder, every_steps, lease
        self._is_asked_to_stop = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the optimiser's state in order, check that ranks go on from one step, and listen for SIGTERM on all.

        With several ranks, Lightning's own handler of SIGTERM cannot stay: it starts a broadcast wherever the signal
        happens to come, which another rank may take for the gradients.

        Raises:
            GeoladderError: a rank found another checkpoint.
        """
        for optimizer in trainer.optimizers:
            align_state(optimizer)
        if trainer.world_size == 1:
            return
        steps = [0] * trainer.world_size
        torch.distributed.all_gather_object(steps, trainer.global_step)
        if len(set(steps)) > 1:
            raise GeoladderError(
                f"ranks go on from different steps {sorted(set(steps))} of {self._folder}; do all nodes see one "
                "folder? Run again, or delete it to train this run from the start"
            )
        signal.signal(signal.SIGTERM, self._note_sigterm)

    def _note_sigterm(self, *_: object) -> None:
        self._is_asked_to_stop = True

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object, **__: object) -> None:
        """Lightning calls this after every step.

        Raises:
            SIGTERMException: on all ranks after the same step, once one of several got SIGTERM.
        """
        if self._lease is not None:
            check_held(self._lease)
        if trainer.global_step % self._every == 0:
            self._save(trainer)
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._is_asked_to_stop, all=False
        ):
            raise SIGTERMException

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Lightning calls this before it lets an exception out of `fit`."""
        if isinstance(exception, SIGTERMException):
            self._save(trainer)
            log.info(
                "stopped by SIGTERM after step %d, which is saved; run again to go on", trainer.global_step
            )

    def _save(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step >= trainer.max_steps:
            return  # nothing is left to go on with
        path = _path_of(self._folder, trainer.global_step)
        trainer.save_checkpoint(path)
        for older in self._folder.glob("step-*.ckpt"):
            if trainer.is_global_zero and older != path:
                older.unlink(missing_ok=True)


def align_state(optimizer: torch.optim.Optimizer) -> None:
    """Lay the optimiser's state out in memory as its parameters are.

    A fused optimiser walks both as plain memory, without a look at their strides. A state saved by FSDP, whose
    weights are contiguous, would be taken in another order where weights are channels-last, and the reverse.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if (
                isinstance(value, Tensor)
                and value.shape == parameter.shape
                and _strides(value) != _strides(parameter)
            ):
                state[name] = torch.empty_like(parameter).copy_(value)


def number_by_name(state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Number parameters in an optimiser's state dict as the model lists them, which is what FSDP does and expects.

    By itself an optimiser numbers them group by group; on loading, only the order in each group counts.
    """
    number = {id(parameter): i for i, parameter in enumerate(model.parameters())}
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    new = {old: number[id(parameter)] for old, parameter in enumerate(grouped)}
    state["state"] = {new[old]: value for old, value in state["state"].items()}
    for group in state["param_groups"]:
        group["params"] = [new[old] for old in group["params"]]


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).stride()


def _path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.ckpt"


def newest_checkpoint(folder: Path) -> Path | None:
    """Checkpoint of the highest step in `folder`; None where there is none."""
    return max(folder.glob("step-*.ckpt"), default=None)
