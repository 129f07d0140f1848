"""A study that demands one backend of scans gets that or an error; torch.compile sees no choice at all."""

import logging

import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.models import scan, wavefront
from geoladder.models.build import build_from
from geoladder.models.demand import demand_scan, demanded_scan
from geoladder.models.scan import selective_scan
from geoladder.models.tokens import MixerBlock

SCANS = {"selective scan": scan, "wavefront scan": wavefront}


@pytest.fixture
def demand():
    """Demands a backend, from fresh choices on."""

    def start(name):
        demand_scan(name)
        for module in SCANS.values():
            module.chosen.cache_clear()

    yield start
    start("auto")


def fails(problem):
    def attempt(*_):
        raise problem

    return attempt


@pytest.mark.parametrize("module", SCANS.values())
def test_what_is_demanded_runs_and_is_said_to_be_asked_for(demand, module):
    before = str(module.choose_backend("cpu"))
    demand("torch")
    assert str(module.choose_backend("cpu")) == "torch (asked for)"
    assert module.choose_backend("meta").name != "torch" or module is wavefront  # nothing is computed there
    demand("auto")
    assert (demanded_scan(), str(module.choose_backend("cpu"))) == ("auto", before)


def test_a_demanded_form_is_what_computes(demand, monkeypatch):
    monkeypatch.setitem(scan.FORMS, "torch", lambda u, *_: torch.full_like(u, 7.0))
    u, a, b = torch.ones(1, 2, 3), -torch.ones(2, 4), torch.ones(1, 4, 3)
    inputs = (u, u, a, b, b, torch.ones(2))
    assert not (selective_scan(*inputs) == 7).any()
    demand("torch")
    assert (selective_scan(*inputs) == 7).all()


@pytest.mark.parametrize(
    ("operation", "device", "name", "message"),
    [
        (
            "selective scan",
            "cpu",
            "triton",
            "triton, but .* no such kernels for cpu; set it to auto, or numba or torch",
        ),
        (
            "selective scan",
            "cuda",
            "numba",
            "numba, but .* no such kernels for cuda; .* mamba_ssm or triton or torch",
        ),
        (
            "wavefront scan",
            "cpu",
            "numba",
            "the wavefront scan has no such kernels for cpu; set it to auto, or torch",
        ),
        (
            "selective scan",
            "cuda",
            "mamba_ssm",
            "it is not installed; mend it, or set it to auto, or triton or torch",
        ),
        ("selective scan", "cuda", "triton", "does not work: RuntimeError: no ptxas; mend it"),
        ("wavefront scan", "cuda", "triton", "does not work: OutOfMemoryError: CUDA out of memory"),
    ],
)
def test_a_demanded_backend_that_is_not_there_is_an_error(
    demand, monkeypatch, operation, device, name, message
):
    monkeypatch.setattr(scan, "warm_up", fails(RuntimeError("no ptxas\nfor sm_999")))
    monkeypatch.setattr(wavefront, "_try_out", fails(torch.OutOfMemoryError("CUDA out of memory")))
    demand(name)
    with pytest.raises(GeoladderError, match=rf"compute\.scan is {name}.*{message}|{message}"):
        SCANS[operation].choose_backend(device)


def test_without_a_demand_too_little_memory_is_one_line_and_the_next_backend(demand, monkeypatch, caplog):
    monkeypatch.setattr(scan, "warm_up", fails(torch.OutOfMemoryError("CUDA out of memory")))
    demand("auto")
    with caplog.at_level(logging.INFO, logger="geoladder"):
        assert scan.choose_backend("cuda").name == "torch"
    assert [record.getMessage() for record in caplog.records] == [
        "selective scan by torch (a GPU; mamba_ssm is not installed; triton does not work: OutOfMemoryError: CUDA "
        "out of memory)"
    ]


BLOCKS = {
    "mamba_upernet": dict(width=12, depth=4, patch=4, decoder=4, stem=6, d_state=8, expand=1),
    "mamba2d": dict(width=8, dims=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder=16, expand=1),
    "rs3mamba": dict(
        width=12,
        depths=[1, 1, 1, 1],
        resnet=[1, 1, 1, 1],
        heads=4,
        decoder=8,
        latent=8,
        image_px=32,
        d_state=4,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", BLOCKS)
def test_a_compiled_block_is_one_graph_with_the_same_numbers(architecture):
    """Gradients too, but for the 2-D scan, of whose depthwise convolution torch 2.13 traces wrong strides."""
    torch.manual_seed(0)
    encoder = build_from(architecture, BLOCKS[architecture]).encoder
    kinds = ("_VSSBlock", "_Block", MixerBlock.__name__)
    block = next(part for part in encoder.modules() if type(part).__name__ in kinds)
    dim = next(block.parameters()).shape[0]
    x = torch.randn(2, 3, 5, dim, requires_grad=True)
    backend = "eager" if architecture == "mamba2d" else "aot_eager"
    compiled = torch.compile(block, backend=backend, fullgraph=True)
    results = []
    for run in (block, compiled):
        y = run(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])))
    torch.compiler.reset()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
