"""One run spread over processes, passes and recomputation has the numbers of a plain one."""

import atexit
import json
import multiprocessing
import os
import signal
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore

from geoladder.data.batches.batch import block_masks
from geoladder.errors import GeoladderError
from geoladder.models import tokens, unet, vit
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.registry import ARCHITECTURES
from geoladder.study.compute import accumulation
from geoladder.training import trainer
from geoladder.training.checkpoints import load_progress, newest_checkpoint, save_progress
from geoladder.training.job import Hardware
from geoladder.training.pretrain import pretrain
from geoladder.training.ranks import other_ranks
from geoladder.training.trainer import adamw, checkpoint_blocks, compile_blocks, wrap_policy

CALM = 0.001
"""Learning rate at which rounding does not grow in 150 steps; at the usual 0.01 it is 1e-2 of the loss after 40."""
FAMILIES = {"unet": unet.ConvBlock, "vit_upernet": vit.Block, "mamba_upernet": tokens.MixerBlock}


@pytest.fixture
def run(inputs):
    def start(spec, out, **computing):
        pretrain(spec, inputs, Hardware(**computing), out)
        return pd.read_csv(out / "log.csv"), json.loads((out / "metrics.json").read_text())

    return start


def assert_same_run(result, expected, tolerance=1e-5):
    """Losses, validation and all terms, by step."""
    log, metrics = result
    plain_log, plain_metrics = expected
    columns = [name for name in plain_log if name != "samples_per_second"]
    assert log["step"].tolist() == plain_log["step"].tolist()
    assert np.allclose(log[columns], plain_log[columns], rtol=tolerance, atol=tolerance, equal_nan=True)
    assert metrics["metrics"]["val_loss"] == pytest.approx(
        plain_metrics["metrics"]["val_loss"], abs=tolerance
    )
    assert {k: metrics[k] for k in ("fingerprint", "steps", "samples_seen", "gflops_fwd", "parameters")} == {
        k: plain_metrics[k] for k in ("fingerprint", "steps", "samples_seen", "gflops_fwd", "parameters")
    }


def model_of(architecture, size="xs"):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return PretrainModel(build_backbone(architecture, size))


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 8))
def test_passes_multiply_to_the_batch(passes, devices, micro_batch):
    assert accumulation(passes * devices * micro_batch, devices, micro_batch) == passes
    assert accumulation(passes * devices, devices, None) == 1


@pytest.mark.parametrize(
    ("batch", "devices", "micro_batch", "message"),
    [
        (16, 3, None, r"16 samples cannot be shared evenly by 3 devices.* use one of 1, 2, 4, 8, 16 devices"),
        (
            16,
            2,
            3,
            r"micro_batch 3 does not divide the 8 samples.*2 devices.*batch of 16; use one of 1, 2, 4, 8",
        ),
        (12, 5, None, r"use one of 1, 2, 3, 4, 6, 12 devices"),
        (16, 2, 16, r"micro_batch 16 does not divide the 8 samples"),
    ],
)
def test_what_does_not_fit_is_said_with_what_does(batch, devices, micro_batch, message):
    with pytest.raises(GeoladderError, match=message):
        accumulation(batch, devices, micro_batch)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.floats(0.01, 0.99), st.integers(0, 9))
def test_every_chip_hides_as_many_pixels_so_means_of_slices_pool(ranks, per_rank, blocks, ratio, seed):
    """What the mean over ranks and passes rests on: if a mask ever hid unequal numbers, losses would need weights."""
    masks = block_masks(
        ranks * per_rank, 4 * blocks + 4, 4 * blocks + 4, 4, ratio, torch.Generator().manual_seed(seed)
    )
    assert len({int(masks[rank::ranks].sum()) for rank in range(ranks)}) == 1
    assert len(masks.flatten(1).sum(1).unique()) == 1


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_policy_names_the_blocks_of_each_family(architecture):
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, "m"))
    assert trainer.block_types(model) == (FAMILIES[architecture],)
    wrapped = dict(wrap_policy(model))
    assert wrapped
    assert set(wrapped.values()) == {
        part for part in model.modules() if isinstance(part, FAMILIES[architecture])
    }
    if architecture == "unet":  # the decoder's, too
        assert "backbone.decoder.fuse" in wrapped
        assert len(wrapped) == 6
    else:
        assert list(wrapped) == [f"backbone.encoder.blocks.{i}" for i in range(4)]


@pytest.fixture
def eight_ranks():
    """A process group of eight that exchanges nothing."""
    torch.distributed.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    yield init_device_mesh("cpu", (8,))
    torch.distributed.destroy_process_group()


RUNGS = [(name, size) for name, entry in ARCHITECTURES.items() if not entry.baseline for size in entry.rungs]


@pytest.mark.parametrize(("architecture", "size"), RUNGS)
def test_every_rung_has_blocks_that_hold_most_of_its_weights(architecture, size):
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, size))
    wrapped = wrap_policy(model)
    assert len(wrapped) > 1
    inside = sum(p.numel() for _, block in wrapped for p in block.parameters())
    assert inside > 0.5 * sum(p.numel() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "size"), RUNGS)
def test_every_rung_can_be_spread(eight_ranks, architecture, size):
    """DDP waits for a gradient of every trainable weight; FSDP shares out every block; both on meta."""
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, size))
        outputs = model(torch.empty(1, 10, 128, 128), torch.empty(1, 1, 128, 128, dtype=torch.bool))
    sum(part.sum() for part in (outputs.reconstruction, *outputs.targets.values())).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    trainer.shard(model, eight_ranks)
    whole = sum(p.numel() for p in model.parameters())
    local = sum(p.to_local().numel() for p in model.parameters())
    assert local < 0.3 * whole


def test_a_family_may_declare_its_blocks_and_the_outermost_of_nested_ones_count():
    class Declared(nn.Module):
        block_types = (nn.Linear, nn.Sequential)

        def __init__(self):
            super().__init__()
            self.nested = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
            self.alone = nn.Linear(2, 2)

    assert [name for name, _ in wrap_policy(Declared())] == ["nested", "alone"]


class Flat(nn.Module):
    """A backbone whose encoder is a list of layers, with no block in it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))


@pytest.mark.parametrize("spread", [checkpoint_blocks, compile_blocks, wrap_policy])
def test_a_flat_encoder_is_refused_with_what_to_define(spread):
    with pytest.raises(GeoladderError, match=r"Flat has no blocks .*`block_types`.*compute\.strategy"):
        spread(nn.ModuleDict({"backbone": Flat()}))
    declared = type("Declared", (Flat,), {"block_types": (nn.Linear,)})
    assert len(wrap_policy(declared())) == 3


@pytest.mark.parametrize("architecture", FAMILIES)
def test_weights_are_shared_out_block_by_block_on_meta(eight_ranks, architecture):
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, "m"))
    before = {name: p.shape for name, p in model.named_parameters()}
    trainer.shard(model, eight_ranks)
    shared = {name for name, part in model.named_modules() if isinstance(part, FSDPModule)}
    assert shared == {"", *dict(wrap_policy(model))}
    assert {name: p.shape for name, p in model.named_parameters()} == before
    local = sum(p.to_local().numel() for p in model.parameters())
    assert local < 0.25 * sum(map(torch.Size.numel, before.values()))  # an eighth, and what does not divide


@pytest.mark.parametrize("architecture", FAMILIES)
def test_recomputed_blocks_give_the_same_gradients(architecture):
    pixels = torch.randn(2, 10, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = block_masks(2, 32, 32, 4, 0.5, torch.Generator().manual_seed(1))
    gradients = []
    for recompute in (False, True):
        model = model_of(architecture)
        if recompute:
            names = list(model.state_dict())
            checkpoint_blocks(model)
            assert list(model.state_dict()) == names
        output = model(pixels, mask)
        sum(part.square().sum() for part in (output.reconstruction, *output.targets.values())).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = gradient.abs().max().clamp(min=1e-12)
        assert float((gradients[1][name] - gradient).abs().max() / scale) < 1e-6, name


@pytest.mark.parametrize("architecture", FAMILIES)
def test_recomputing_keeps_less_for_the_backward_pass(architecture):
    pixels, kept = torch.randn(4, 10, 32, 32), []
    for recompute in (False, True):
        model = model_of(architecture)
        if recompute:
            checkpoint_blocks(model)
        sizes = {}

        def note(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(pixels)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.9 * kept[0]


@pytest.mark.parametrize(
    "computing", [{"micro_batch": 2}, {"micro_batch": 1, "activation_checkpointing": True}]
)
def test_passes_over_micro_batches_equal_one_big_batch(run, pretrain_spec, tmp_path, computing):
    spec = pretrain_spec()
    assert_same_run(run(spec, tmp_path / "a", **computing), run(spec, tmp_path / "b"))


def test_a_batch_that_cannot_be_shared_stops_before_anything_starts(inputs, pretrain_spec, tmp_path):
    spec = pretrain_spec()
    with pytest.raises(GeoladderError, match="cannot be shared evenly by 3 devices"):
        pretrain(spec, inputs, Hardware(devices=3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_gpus_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(GeoladderError, match=r"asks for 4 GPUs on this machine, which has 2"):
        trainer.choose_strategy("ddp", 4)
    assert trainer.choose_strategy("ddp", 4, nodes=2).name == "ddp"
    with pytest.raises(GeoladderError, match="3 nodes cannot share evenly"):
        trainer.choose_strategy("ddp", 4, nodes=3)


def test_the_choice_of_a_strategy_has_its_reason():
    assert trainer.choose_strategy("auto", 1) == ("single device", "one device")
    assert trainer.choose_strategy("fsdp", 1) == (
        "single device",
        "one device, so fsdp has nothing to share",
    )
    assert trainer.choose_strategy("auto", 2) == ("ddp", "auto, and several devices")
    assert trainer.choose_strategy("fsdp", 2) == ("fsdp", "asked for")


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(trainer.shutil, "which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GeoladderError, match=r"compute\.compile needs a C\+\+ compiler"):
        compile_blocks(model_of("unet"))


def test_the_log_says_what_was_chosen_and_why(run, pretrain_spec, tmp_path, caplog):
    with caplog.at_level("INFO", logger="geoladder"):
        run(pretrain_spec("mamba_upernet", samples=8, precision="auto"), tmp_path)
    text = caplog.text
    assert text.count("training on") == text.count("; single device (one device)") == 1
    assert (
        "training on cpu (no CUDA GPU; 1 threads); kernels: selective_scan by numba (tensors are on cpu)"
        in text
    )
    assert "precision 32-true (auto, and no GPU)" in text


def test_two_processes_equal_one(run, pretrain_spec, tmp_path):
    """Also with two passes each, on weights that a seed drew apart in each process."""
    spec = pretrain_spec()
    plain = run(spec, tmp_path / "one")
    assert_same_run(run(spec, tmp_path / "two", devices=2, strategy="ddp", micro_batch=2), plain)
    assert "LOCAL_RANK" not in os.environ
    assert not torch.distributed.is_initialized()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vit_upernet", "mamba_upernet"])
def test_two_processes_equal_one_in_the_other_families(run, pretrain_spec, tmp_path, architecture):
    spec = pretrain_spec(architecture, lr=0.003)
    plain = run(spec, tmp_path / "one")
    assert_same_run(run(spec, tmp_path / "two", devices=2), plain)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_shared_out_weights_train_alike(run, pretrain_spec, tmp_path, architecture):
    spec = pretrain_spec(architecture, lr=0.003)
    plain = run(spec, tmp_path / "one")
    computing = {"devices": 2, "strategy": "fsdp", "micro_batch": 2, "activation_checkpointing": True}
    assert_same_run(run(spec, tmp_path / "two", **computing), plain)
    whole, gathered = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert {k: v.shape for k, v in whole.items()} == {k: v.shape for k, v in gathered.items()}


@pytest.mark.slow
def test_compiled_blocks_train_alike(run, pretrain_spec, tmp_path):
    spec = pretrain_spec("vit_upernet", lr=0.003, samples=32)
    plain = run(spec, tmp_path / "plain")
    assert_same_run(run(spec, tmp_path / "compiled", compile=True), plain)


def shoot(spec, inputs, out, computing, number):
    """Run in a child process until a checkpoint exists, then send it a signal; return its exit status."""
    arguments = (spec, inputs, Hardware(**computing), out)
    child = multiprocessing.get_context("fork").Process(target=pretrain, args=arguments)
    child.start()
    state = out / "state" / spec.fingerprint
    deadline = time.monotonic() + 120
    while newest_checkpoint(state) is None:
        assert child.is_alive(), "the run ended before it could be shot"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    os.kill(child.pid, number)
    child.join(120)
    return child.exitcode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "number"), [("ddp", signal.SIGKILL), ("ddp", signal.SIGTERM), ("fsdp", signal.SIGTERM)]
)
def test_a_shot_run_of_two_processes_goes_on(run, inputs, pretrain_spec, tmp_path, strategy, number, caplog):
    spec = pretrain_spec(samples=1200, checkpoint_every=10, lr=CALM)
    computing = {"devices": 2, "strategy": strategy}
    plain = run(spec, tmp_path / "plain")
    out = tmp_path / "shot"
    assert shoot(spec, inputs, out, computing, number) == (143 if number == signal.SIGTERM else -number)
    assert not (out / "metrics.json").exists()
    checkpoint = newest_checkpoint(out / "state" / spec.fingerprint)
    with caplog.at_level("INFO"):
        result = run(spec, out, **computing)
    assert f"resuming from {checkpoint}" in caplog.text
    assert_same_run(result, plain)
    assert not (out / "state").exists()


@pytest.mark.slow
@pytest.mark.parametrize("two_first", [True, False])
def test_a_run_may_go_on_with_another_number_of_processes(run, inputs, pretrain_spec, tmp_path, two_first):
    spec = pretrain_spec(samples=1200, checkpoint_every=10, lr=CALM)
    plain = run(spec, tmp_path / "plain")
    ways = [{"devices": 2, "strategy": "fsdp"}, {}]
    first, then = ways if two_first else ways[::-1]
    assert shoot(spec, inputs, tmp_path / "shot", first, signal.SIGTERM) == 143
    assert_same_run(run(spec, tmp_path / "shot", **then), plain)


def test_an_optimisers_state_takes_the_layout_of_its_weights(tmp_path):
    """As happens between FSDP and one device; a fused step on mixed layouts would be silently wrong."""
    steps = []
    for layout in (torch.channels_last, torch.contiguous_format):
        generator = torch.Generator().manual_seed(0)
        model = nn.Conv2d(4, 6, 3, bias=False).to(memory_format=torch.channels_last)
        nn.init.normal_(model.weight, generator=generator)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        mean = torch.randn(6, 4, 3, 3, generator=generator)
        optimizer.state[model.weight] = {
            "step": torch.tensor(3.0),
            "exp_avg": mean.to(memory_format=layout),
            "exp_avg_sq": mean.square().to(memory_format=layout),
        }
        save_progress(tmp_path, 3, model, optimizer, [])
        assert load_progress(newest_checkpoint(tmp_path), model, optimizer) == (3, [], {})
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        steps.append(model.weight.detach().clone())
    assert torch.equal(*steps)


def test_a_weight_without_a_gradient_so_far_has_no_state_to_take_up(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = adamw(model, 0.1, 0.05)
    model[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_progress(tmp_path, 1, model, optimizer, [])
    fresh = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other = adamw(fresh, 0.1, 0.05)
    load_progress(newest_checkpoint(tmp_path), fresh, other)
    assert torch.equal(other.state[fresh[0].bias]["exp_avg"], optimizer.state[model[0].bias]["exp_avg"])
    assert not other.state[fresh[1].bias]
    fresh(torch.ones(1, 2)).sum().backward()
    other.step()


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_all_processes(run, pretrain_spec, tmp_path):
    with pytest.raises(GeoladderError, match=r"unet-xs on majortom .* became .* at step"):
        run(pretrain_spec(lr=1e30), tmp_path, devices=2)
    assert not multiprocessing.active_children()


def test_what_another_rank_died_of_is_said():
    """Rank 0 only notices that a connection broke."""
    fail = partial(accumulation, batch=16, devices=3, micro_batch=None)
    with pytest.raises(GeoladderError, match="rank 1 stopped: a batch of 16 samples"):
        with other_ranks(2, fail):
            assert os.environ["LOCAL_RANK"] == "0"
            for other in multiprocessing.active_children():
                other.join(60)
            raise RuntimeError("connection closed by peer")
    assert "LOCAL_RANK" not in os.environ


def test_a_rank_that_a_signal_killed_is_said_to_be_dead(monkeypatch):
    """It had no time to say why. What else changed in the environment meanwhile stays."""
    monkeypatch.delenv("UNRELATED", raising=False)
    with pytest.raises(GeoladderError, match=r"rank 1 stopped: it ended with status -9"):
        with other_ranks(2, partial(signal.raise_signal, signal.SIGKILL)):
            monkeypatch.setenv("UNRELATED", "kept")
            for rank in multiprocessing.active_children():
                rank.join(60)
            raise RuntimeError("connection closed by peer")
    assert os.environ["UNRELATED"] == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_that_find_other_checkpoints_are_refused(inputs, pretrain_spec, tmp_path, strategy):
    """As on nodes that do not see one folder."""
    spec = pretrain_spec(samples=1200, checkpoint_every=10, lr=CALM)
    assert shoot(spec, inputs, tmp_path / "here", {}, signal.SIGTERM) == 143
    hardware = Hardware(devices=2, strategy=strategy)
    with pytest.raises(GeoladderError, match=r"ranks go on from different steps \[0, \d+\]"):
        with other_ranks(2, partial(pretrain, spec, inputs, hardware, tmp_path / "elsewhere")):
            pretrain(spec, inputs, hardware, tmp_path / "here")


def leave_late(folder):
    """A rank that is done leaves no trace before rank 0 is done; one whose exit would crash does not crash."""
    (folder / "done").touch()
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)


def test_a_rank_that_is_done_waits_for_rank_0_and_leaves_without_shutting_down(tmp_path):
    with other_ranks(2, partial(leave_late, tmp_path)):
        (other,) = multiprocessing.active_children()
        deadline = time.monotonic() + 300
        while not (tmp_path / "done").exists():
            assert other.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        other.join(0.5)
        assert other.is_alive()
    assert other.exitcode == 0


def test_ranks_that_somebody_else_started_are_not_started_again(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with other_ranks(2, accumulation):
        assert not multiprocessing.active_children()


@pytest.mark.parametrize("by_model", [True, False])
def test_a_checkpoint_of_lightnings_trainer_is_taken_up(tmp_path, by_model):
    """It named weights after its module, and numbered the optimiser's by group, or as the model lists them."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = adamw(model, 0.1, 0.05)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    if by_model:
        number = dict(enumerate((0, 2, 1, 3)))
        state["state"] = {number[old]: value for old, value in state["state"].items()}
        for group in state["param_groups"]:
            group["params"] = [number[old] for old in group["params"]]
    rows = [{"step": 1}]
    checkpoint = {
        "global_step": 1,
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "optimizer_states": [state],
        "lr_schedulers": [{"last_epoch": 1}],
        "callbacks": {"Journal": {"rows": rows}},
    }
    torch.save(checkpoint, tmp_path / "step-000000001.ckpt")
    fresh = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other = adamw(fresh, 0.1, 0.05)
    assert load_progress(tmp_path / "step-000000001.ckpt", fresh, other) == (1, rows, {})
    for one, two in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two)
        assert all(torch.equal(value, other.state[two][name]) for name, value in optimizer.state[one].items())
