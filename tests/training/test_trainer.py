import itertools

import lightning
import pytest
import torch

from geoladder.training.precision import resolve_precision
from geoladder.training.trainer import fit, make_trainer


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
    fit(make_trainer(2, "32-true", 1.0), Steep())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []


def test_asked_precision_is_kept_and_auto_on_a_cpu_is_32_bit(monkeypatch):
    assert resolve_precision("bf16-mixed") == "bf16-mixed"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_precision("auto") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert resolve_precision("auto") == "bf16-mixed"
