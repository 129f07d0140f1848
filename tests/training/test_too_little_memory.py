"""Too little memory is one line that names what did not fit and what helps; other errors pass."""

import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.training import pretrain as stage
from geoladder.training.job import Hardware
from geoladder.training.memory import memory_for
from geoladder.training.pretrain import pretrain


def too_large():
    return torch.empty(1 << 55, dtype=torch.uint8)


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_what_did_not_fit_is_named(problem):
    with pytest.raises(GeoladderError, match=r"a pass does not fit into memory \(.*\); take less"):
        with memory_for("a pass", "take less"):
            raise problem


def test_a_cpu_that_has_no_more_is_noticed_and_other_errors_pass():
    with pytest.raises(GeoladderError, match="a pass does not fit into memory"):
        with memory_for("a pass", "take less"):
            too_large()
    with pytest.raises(RuntimeError, match="shapes"):
        with memory_for("a pass", "take less"):
            raise RuntimeError("shapes do not fit")


def test_a_run_that_does_not_fit_says_what_to_set(inputs, pretrain_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "pretrain_terms", lambda *_: too_large())
    with pytest.raises(
        GeoladderError, match=r"a pass of 4 images of unet-xs does not fit.*compute\.micro_batch"
    ):
        pretrain(pretrain_spec(), inputs, Hardware(micro_batch=4), tmp_path / "run")
    assert not (tmp_path / "run/metrics.json").exists()


def test_a_demanded_scan_stops_a_run_that_scans_and_no_other(inputs, pretrain_spec, tmp_path):
    hardware = Hardware(scan="triton")
    with pytest.raises(GeoladderError, match=r"compute\.scan is triton, but the selective scan has no such"):
        pretrain(pretrain_spec("mamba_upernet", samples=8), inputs, hardware, tmp_path / "mamba")
    pretrain(pretrain_spec(samples=8), inputs, hardware, tmp_path / "unet")
    pretrain(pretrain_spec("mamba_upernet", samples=8), inputs, Hardware(), tmp_path / "mamba")
    assert (tmp_path / "mamba/metrics.json").exists()
