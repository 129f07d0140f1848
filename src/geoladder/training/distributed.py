"""How a model is spread over processes and memory: ranks, DDP, FSDP, activation checkpointing, compilation by block.

Unusual: Lightning would start the other ranks by running the command line again, which does not exist where a warm
worker forked this process, or a test called a function. Here rank 0 is the caller itself, and the others are started
here, call the same function and die with it.

All else works block by block (a transformer, Mamba or convolution block: what a network repeats), and `block_types`
alone knows what that is. FSDP is torch's `fully_shard` through Lightning's ModelParallelStrategy: Lightning's older
FSDPStrategy refuses CPUs, and shares out the whole LightningModule, whose training step holds several backward passes
here. Nothing here changes numbers beyond rounding, so none of it is part of a run's spec.
"""

import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.distributed
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from geoladder.errors import GeoladderError
from geoladder.training.job import StrategyName

GRACE_S = 60.0
"""How long rank 0 waits for the others once it is done or has failed."""
KERNELS = {"selective_scan": "geoladder.models.scan"}
"""Functions with several backends, and where each is; `choose_backend` there picks one (and logs why). Not imported
here: a U-Net needs none of them, and must not count as changed when they are."""


class Chosen(NamedTuple):
    """A Lightning strategy (or `auto`, one device), its name, and the reason in words."""

    strategy: Strategy | Literal["auto"]
    name: str
    reason: str


def choose_strategy(wanted: StrategyName, devices: int, nodes: int = 1) -> Chosen:
    """One device needs no strategy; several share each batch (`ddp`), or the weights and optimiser, too (`fsdp`).

    Raises:
        GeoladderError: more devices than this machine has GPUs, or than its share of several nodes.
    """
    if devices == 1:
        why = "one device" if wanted == "auto" else f"one device, so {wanted} has nothing to share"
        return Chosen("auto", "single device", why)
    if devices % nodes:
        raise GeoladderError(f"compute.devices is {devices}, which {nodes} nodes cannot share evenly")
    if torch.cuda.is_available() and torch.cuda.device_count() < devices // nodes:
        raise GeoladderError(
            f"compute.devices asks for {devices // nodes} GPUs on this machine, which has "
            f"{torch.cuda.device_count()}; lower it, ask the cluster for more, or start with torchrun on more nodes"
        )
    why = "asked for" if wanted != "auto" else "auto, and several devices"
    if wanted == "fsdp":
        sharded = ModelParallelStrategy(
            data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
        return Chosen(sharded, "fsdp", why)
    return Chosen(DDPStrategy(gradient_as_bucket_view=True), "ddp", why)


def block_types(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of the blocks a network repeats: the wrapping policy of FSDP, checkpointing and compilation.

    A family says so itself in a class attribute `block_types`. Else they are the classes of composite modules that
    stand directly in a plain `ModuleList` or `Sequential` of its `encoder` (`vit.Block`, `tokens.MixerBlock`,
    `unet.ConvBlock`); wherever else in the model these classes occur (a U-Net's decoder), they count, too.

    Raises:
        GeoladderError: there are none: the encoder is a flat list of layers, and says nothing.
    """
    kinds = {kind for part in model.modules() for kind in getattr(part, "block_types", ())}
    plain = (nn.ModuleList, nn.Sequential)
    encoders = [part for name, part in model.named_modules() if name.rpartition(".")[2] == "encoder"]
    kinds = kinds or {
        type(child)
        for encoder in encoders
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
    return tuple(sorted(kinds, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}"))


def wrap_policy(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of a model's blocks, in order; of nested ones the outermost. Raises as `block_types` does."""
    return list(_outermost(model, block_types(model), ""))


def _outermost(part: nn.Module, kinds: tuple[type, ...], prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in part.named_children():
        if isinstance(child, kinds):
            yield prefix + name, child
        else:
            yield from _outermost(child, kinds, f"{prefix}{name}.")


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only what enters each block; the backward pass computes its inside again. Names stay as they are."""
    for _, block in wrap_policy(model):
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Any, *inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - what a block takes and gives
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


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


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share out weights, gradients and optimiser state over a mesh, block by block, the rest together."""
    # `fully_shard` takes contiguous weights only; activations are channels-last without their help.
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for _, block in wrap_policy(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a part of each weight."""
    return isinstance(model, FSDPModule)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a sharded model on the CPU of rank 0, and nothing on the others; all ranks must call this."""
    gathered = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return cast(dict[str, Tensor], gathered)


def gradients_stay(wrapper: nn.Module | None, model: nn.Module, stay: bool) -> AbstractContextManager[None]:
    """Whether gradients of the coming backward pass stay on their device, to be added to by the next one.

    Args:
        wrapper: what the strategy put around the training module, DDP's wrapper among others.
        model: the model itself, maybe sharded.
        stay: False on the last pass of a step, which exchanges them.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not stay)
    elif stay and isinstance(wrapper, DistributedDataParallel):
        return wrapper.no_sync()
    return nullcontext()


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of equally long tensors over all ranks; every rank gets the same bits."""
    if not torch.distributed.is_initialized():
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)  # gloo knows sums, but no means
    return total / torch.distributed.get_world_size()


def kernels(model: nn.Module, device_type: str) -> str:
    """Backends of the special kernels a model uses on a kind of device, in words."""
    modules = {type(part).__module__ for part in model.modules()}
    used = [name for name in KERNELS if any(hasattr(sys.modules[module], name) for module in modules)]
    chosen = {name: import_module(KERNELS[name]).choose_backend(device_type) for name in used}
    return ", ".join(f"{name} by {backend}" for name, backend in chosen.items()) or "torch's own"


class Rank(NamedTuple):
    """A rank that was started here, and the pipe its error message comes through."""

    number: int
    process: SpawnProcess
    errors: Connection


@contextmanager
def other_ranks(devices: int, run: Callable[[], object]) -> Iterator[None]:
    """Start ranks 1 to `devices` - 1, each calling `run()`, and be rank 0 while the block runs.

    Where `torchrun` or a cluster has started all ranks already (LOCAL_RANK is set), nothing is started.

    Args:
        devices: ranks in all; 1 starts nothing.
        run: a module-level function, or a partial of one, that pickles.

    Raises:
        GeoladderError: another rank failed; with its message.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    ranks = [_start(number, group, run) for number in range(1, devices)]
    with _environment(group | {"LOCAL_RANK": "0"}):
        try:
            yield
        except (GeoladderError, SystemExit):
            raise  # it concerns all ranks, and they say the same
        except BaseException as problem:
            _blame(ranks, problem)
            raise
        finally:
            _end(ranks)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(number: int, group: Mapping[str, str], run: Callable[[], object]) -> Rank:
    # Forking would copy a process that has threads and maybe a GPU.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_be_rank, args=(sender, run))
    with _environment({**group, "LOCAL_RANK": str(number)}):  # Lightning reads it when it is imported
        process.start()
    sender.close()
    return Rank(number, process, receiver)


def _be_rank(sender: Connection, run: Callable[[], object]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run()
    except GeoladderError as problem:
        sender.send(str(problem))
        sys.exit(1)


def _die_with_parent() -> None:
    """A rank that lost rank 0 would wait in a collective for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _blame(ranks: list[Rank], problem: BaseException) -> None:
    """Raise what another rank said or died of, where that is why rank 0 failed."""
    for rank in ranks:
        rank.process.join(5)
        status = rank.process.exitcode
        if status:
            reason = rank.errors.recv() if rank.errors.poll() else f"it ended with status {status}"
            raise GeoladderError(f"rank {rank.number} stopped: {reason}") from problem


def _end(ranks: list[Rank]) -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for rank in ranks:
        rank.process.join(GRACE_S)
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()
