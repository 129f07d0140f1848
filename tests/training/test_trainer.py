import itertools
import logging

import lightning
import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.training.trainer import choose_precision, fit, make_trainer


class Steep(lightning.LightningModule):
    """One weight at 0 and a loss of slope 100; plain gradient descent, so a step is what clipping leaves."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def train_dataloader(self):
        return itertools.repeat(torch.ones(()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def training_step(self, batch, _):
        return -100 * self.weight * batch


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_and_steps_counted(precision):
    module = Steep()
    fit(make_trainer(7, precision, gradient_clip=0.5), module)
    assert float(module.weight.detach()) == pytest.approx(7 * 0.5)


def test_nothing_is_printed_or_left(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # another test may have started the log
    fit(make_trainer(2, "32-true", 1.0), Steep())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []


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
        make_trainer(1, "bf16-mixed", 1.0)
