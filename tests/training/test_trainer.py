import logging

import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.training.job import Hardware
from geoladder.training.trainer import choose_precision, place


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_nothing_is_printed_or_left(tmp_path, monkeypatch, capfd, precision):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # another test may have started the log
    fabric, forward = place(torch.nn.Linear(2, 2), precision, Hardware())
    fabric.backward(forward(torch.ones(1, 2)).sum())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []


def test_in_bf16_layers_compute_in_it_from_pixels_of_32_bit():
    model = torch.nn.Linear(2, 2)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    _, forward = place(model, "bf16-mixed", Hardware())
    assert forward(torch.ones(1, 2)).dtype == torch.bfloat16
    assert seen == [torch.float32]
    assert model(torch.ones(1, 2)).dtype == torch.float32  # validation is not in bf16


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU, with bf16 or with its emulation alone."""

    def pretend(has_bf16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla V100")
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16 or including_emulation
        )

    return pretend


def test_asked_precision_is_kept_and_auto_on_a_cpu_is_32_bit(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("bf16-mixed") == ("bf16-mixed", "asked for")
    assert choose_precision("auto") == ("32-true", "auto, and no GPU")


def test_auto_takes_bf16_where_the_gpu_computes_in_it(gpu):
    gpu(has_bf16=True)
    assert choose_precision("auto") == ("bf16-mixed", "auto, and the GPU has bf16")
    assert choose_precision("32-true") == ("32-true", "asked for")


def test_bf16_on_a_gpu_that_would_emulate_it_is_refused(gpu):
    gpu(has_bf16=False)
    assert choose_precision("auto") == ("32-true", "auto, and the GPU has no bf16")
    with pytest.raises(
        GeoladderError, match=r"bf16-mixed, but Tesla V100 has no bf16 .* use auto or 32-true"
    ):
        place(torch.nn.Linear(2, 2), "bf16-mixed", Hardware())
