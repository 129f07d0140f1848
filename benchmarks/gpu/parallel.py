"""DDP and FSDP on one device: a group of one rank must train as no group does."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed
from benchmarks.gpu.check import Check, Row, at_most, reduced_model, synthetic_batch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from geoladder.study.pretraining import Objective
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import shard

FAMILY, PX, STEPS = "vit_upernet", 32, 3
LIMIT = 1e-4


def parallel(check: Check) -> Iterator[Row]:
    """Losses of a few steps, wrapped and sharded, against those of the bare model."""
    backend = "nccl" if check.device == "cuda" else "gloo"
    bare = losses(check, reduced_model(FAMILY).to(check.device))
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            backend, init_method=f"file://{Path(folder) / 'group'}", rank=0, world_size=1
        )
        try:
            model = reduced_model(FAMILY).to(check.device)
            wrapped = losses(check, DistributedDataParallel(model))
            sharded_model = reduced_model(FAMILY).to(check.device)
            shard(sharded_model, init_device_mesh(check.device, (1,)))
            sharded = losses(check, sharded_model)
        finally:
            torch.distributed.destroy_process_group()
    for name, values in (("ddp", wrapped), ("fsdp", sharded)):
        miss = max(abs(ours / plain - 1) for ours, plain in zip(values, bare, strict=True))
        yield at_most(LIMIT, FAMILY, f"{name} by {backend}", "loss against one device", miss, "1")


def losses(check: Check, model: nn.Module) -> list[float]:
    """Losses of a few steps of plain gradient descent, float32."""
    optimizer, objective, values = torch.optim.SGD(model.parameters(), lr=1e-3), Objective(), []
    for seed in range(STEPS):
        batch = synthetic_batch(4, PX, seed).to(check.device)
        optimizer.zero_grad()
        loss = pretrain_terms(model(batch.pixels, batch.mask), batch, objective).total(objective)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values
