"""What both stages share: devices, number format, the blocks of a model, its optimiser and learning rate.

FSDP is torch's `fully_shard` through Lightning's ModelParallelStrategy: Lightning's older FSDPStrategy refuses CPUs.
What works block by block (a transformer, Mamba or convolution block: what a network repeats) asks `block_types`,
which alone knows what that is. Devices change results by rounding alone, so they are no part of a run's spec.
"""

import logging
import math
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Literal, NamedTuple

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import Precision
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from geoladder.errors import GeoladderError
from geoladder.models.demand import demand_scan
from geoladder.training.job import Hardware, StrategyName

log = logging.getLogger(__name__)

PrecisionName = Literal["auto", "32-true", "bf16-mixed"]
KERNELS = {
    "selective_scan": "geoladder.models.scan",
    "cross_scan": "geoladder.models.scan",
    "causal_convolution": "geoladder.models.causal_conv",
    "wavefront_scan": "geoladder.models.wavefront",
}
"""Functions with several backends, and where each is; `choose_backend` there picks one (and logs why). Not imported
here: a U-Net needs none of them, and must not count as changed when they are."""


class Choice(NamedTuple):
    """What was chosen, and the reason in words."""

    name: str
    reason: str


class Autocast(Precision):
    """Forward passes in bf16, from inputs of 32 bit: Lightning's own `bf16-mixed` would round the pixels, too."""

    def forward_context(self) -> torch.autocast:
        """Where layers choose bf16."""
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def place(
    model: nn.Module, precision: PrecisionName, hardware: Hardware, partial_use: bool = False
) -> tuple[Fabric, Any]:
    """Bring a model onto its devices as the hardware options ask, and log what was chosen and why.

    With `partial_use`, some of its weights take no part in the loss, and ranks do not wait for their gradients.

    Returns:
        The fabric of the devices, and the model to call in training: it casts numbers, and exchanges gradients among
        ranks.

    Raises:
        GeoladderError: bf16 on a GPU that lacks it, fewer GPUs than devices, no compiler, a network without blocks, a
            scan backend that does not run here.
    """
    demand_scan(hardware.scan)
    if hardware.activation_checkpointing:
        checkpoint_blocks(model)
    if hardware.compile:
        compile_blocks(model)
    for chatty in ("lightning.pytorch", "lightning.fabric"):  # notes on the devices found
        logging.getLogger(chatty).setLevel(logging.WARNING)
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))  # torchrun says so
    number_format = choose_precision(precision)
    spread = choose_strategy(hardware.strategy, hardware.devices, nodes)
    strategies = {
        "ddp": DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=partial_use),
        "fsdp": ModelParallelStrategy(
            lambda whole, mesh: shard(whole, mesh["data_parallel"]), hardware.devices, 1
        ),
    }
    fabric = Fabric(
        devices=hardware.devices // nodes,
        num_nodes=nodes,
        strategy=strategies.get(spread.name, "auto"),
        # The workflow speaks to Slurm itself; Lightning must not.
        plugins=[LightningEnvironment(), Autocast() if number_format.name == "bf16-mixed" else Precision()],
    )
    fabric.launch()
    device, threads = fabric.device, torch.get_num_threads()
    backends = kernels(model, device.type)
    if fabric.is_global_zero:
        on_gpu = device.type == "cuda"
        machine = torch.cuda.get_device_name(device) if on_gpu else f"no CUDA GPU; {threads} threads"
        log.info("precision %s (%s); %s (%s)", *number_format, *spread)
        log.info("training on %s (%s); kernels: %s", device, machine, backends)
    return fabric, fabric.setup_module(model)


def choose_precision(wanted: PrecisionName) -> Choice:
    """`auto` means bf16-mixed on GPUs that have bf16, 32-true elsewhere.

    CPUs are left at 32 bit even where they have bf16 units (AMX): on the rungs meant for them, autocast's casts cost
    what the matrix products save. Milliseconds of a training step on one AMX core, 32 chips of 32 px, 32 bit against
    bf16: U-Net of 31k parameters 19 / 19, of 465k 48 / 44; ViT of 13k 32 / 55, of 229k 76 / 92.

    Raises:
        GeoladderError: bf16 is asked for on a GPU that lacks it.
    """
    on_gpu = torch.cuda.is_available()
    # Torch would otherwise count a slow emulation, too.
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16-mixed" and on_gpu and not has_bf16:
        raise GeoladderError(
            f"compute.precision is bf16-mixed, but {torch.cuda.get_device_name()} has no bf16 (NVIDIA has it from "
            "compute capability 8.0 on: A100, RTX 30 and later); use auto or 32-true"
        )
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if has_bf16:
        return Choice("bf16-mixed", "auto, and the GPU has bf16")
    return Choice("32-true", "auto, and the GPU has no bf16" if on_gpu else "auto, and no GPU")


def choose_strategy(wanted: StrategyName, devices: int, nodes: int = 1) -> Choice:
    """One device needs no strategy; several share each batch (`ddp`), or the weights and optimiser, too (`fsdp`).

    Raises:
        GeoladderError: more devices than this machine has GPUs, or than its share of several nodes.
    """
    if devices == 1:
        why = "one device" if wanted == "auto" else f"one device, so {wanted} has nothing to share"
        return Choice("single device", why)
    if devices % nodes:
        raise GeoladderError(f"compute.devices is {devices}, which {nodes} nodes cannot share evenly")
    if torch.cuda.is_available() and torch.cuda.device_count() < devices // nodes:
        raise GeoladderError(
            f"compute.devices asks for {devices // nodes} GPUs on this machine, which has "
            f"{torch.cuda.device_count()}; lower it, ask the cluster for more, or start with torchrun on more nodes"
        )
    return Choice("ddp", "auto, and several devices") if wanted == "auto" else Choice(wanted, "asked for")


def kernels(model: nn.Module, device_type: str) -> str:
    """Backends of the special kernels a model uses on a kind of device, in words."""
    modules = {type(part).__module__ for part in model.modules()}
    used = [name for name in KERNELS if any(hasattr(sys.modules[module], name) for module in modules)]
    chosen = {name: import_module(KERNELS[name]).choose_backend(device_type) for name in used}
    return ", ".join(f"{name} by {backend}" for name, backend in chosen.items()) or "torch's own"


def block_types(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of the blocks a network repeats: the wrapping policy of FSDP, checkpointing and compilation.

    A family says so itself in a class attribute `block_types`. Else they are the classes of composite modules that
    stand directly in a plain `ModuleList` or `Sequential` of its `encoder` (`vit.Block`, `tokens.MixerBlock`,
    `unet.ConvBlock`); wherever else in the model these classes occur (a U-Net's decoder), they count, too.

    Raises:
        GeoladderError: there are none: the encoder is a flat list of layers, and says nothing.
    """
    plain = (nn.ModuleList, nn.Sequential)
    kinds = {kind for part in model.modules() for kind in getattr(part, "block_types", ())} or {
        type(child)
        for name, encoder in model.named_modules()
        if name.rpartition(".")[2] == "encoder"
        for container in encoder.modules()
        if type(container) in plain
        for child in container.children()
        if type(child) not in plain and next(child.children(), None) is not None
    }
    if not kinds:
        backbone = type(getattr(model, "backbone", model))
        raise GeoladderError(
            f"{backbone.__module__}.{backbone.__qualname__} has no blocks to share out, recompute or compile: its "
            "`encoder` is no list of composite modules; name the classes of its blocks in a class attribute "
            "`block_types`, or leave compute.strategy at auto or ddp, and compute.activation_checkpointing and "
            "compute.compile at false"
        )
    return tuple(kinds)


def wrap_policy(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of a model's blocks, in order, but for blocks inside others. Raises as `block_types` does."""
    kinds, blocks = block_types(model), list[tuple[str, nn.Module]]()
    for name, part in model.named_modules():  # what is inside a module comes right after it
        if isinstance(part, kinds) and not (blocks and name.startswith(f"{blocks[-1][0]}.")):
            blocks.append((name, part))
    return blocks


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only what enters each block; the backward pass computes its inside again. Names stay as they are."""
    for _, block in wrap_policy(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(model: nn.Module) -> None:
    """Compile each block on its first call; equal blocks share the work. Names stay as they are.

    Raises:
        GeoladderError: there is neither a GPU nor a C++ compiler.
    """
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if not torch.cuda.is_available() and not any(map(shutil.which, compilers)):
        raise GeoladderError(
            f"compute.compile needs a C++ compiler on machines without a GPU, and none of {', '.join(compilers)} is "
            "on the PATH; install one, or set compute.compile to false"
        )
    for _, block in wrap_policy(model):
        block.compile()


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Share out weights, gradients and optimiser state over a mesh, block by block, the rest together; in place."""
    # `fully_shard` takes contiguous weights only; activations are channels-last without their help.
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for _, block in wrap_policy(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def cosine_with_warmup(steps: int, warmup_share: float) -> Callable[[int], float]:
    """Multiplier of the peak learning rate (see `registry.ladder.scaled_lr`) at each step.

    Rises linearly over the first `warmup_share` of the steps, then falls along a half cosine that would reach zero
    one step after the last (Loshchilov and Hutter 2017, without restarts).
    """
    warmup = math.floor(steps * warmup_share)

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(steps - warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return multiplier


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) on the trainable parameters.

    Weights of linear layers and convolutions decay; norms, biases, tokens and the decay rates and skips of a state
    space model do not.
    """
    # Norms over channels and pixels have weights of three dimensions.
    norms = {
        id(p) for layer in model.modules() if isinstance(layer, nn.LayerNorm) for p in layer.parameters()
    }
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = name.rpartition(".")[2] == "weight" and parameter.ndim > 1 and id(parameter) not in norms
        if parameter.requires_grad:
            (decaying if is_matrix else others).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, lr: float, largest_norm: float | None) -> None:
    """One step at learning rate `lr`, with all gradients together scaled down to a norm, unless it is None.

    Gradients are gone after it.
    """
    if largest_norm is not None:
        clip_grad_norm_(model.parameters(), largest_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
