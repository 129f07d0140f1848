"""The verb `profile`: every rung counted without allocating it, held to the paper's, and measured on demand."""

import json

import pytest

from geoladder.cli import main
from geoladder.cost.profile import profile, rungs
from geoladder.cost.published import PUBLISHED, misses


@pytest.mark.parametrize(("architecture", "size"), rungs())
def test_every_rung_is_within_tolerance_of_the_published_one(architecture, size):
    costs = profile(architecture, size)
    parts = costs["parameters"]
    assert parts["total"] == parts["encoder"] + parts["decoder"] + parts["heads"]
    assert costs["gflops_train"] == costs["gflops_fwd"] + costs["gflops_bwd"]
    assert 0 < costs["activation_bytes"]["bfloat16"] < costs["activation_bytes"]["float32"]
    if (architecture, size) in PUBLISHED:
        assert costs["published"]["misses"] == []


def test_a_miss_is_named_with_both_numbers():
    parts = {"total": 44_100_000, "encoder": 0}
    (miss,) = misses("geoaware_unet", "44M", parts, 5.0)
    assert "4.41e+07 against 4.3668e+07, +0.99%" in miss
    assert len(misses("geoaware_unet", "44M", parts, 6.0)) == 2
    assert misses("unet", "xs", parts, 6.0) == []


def test_the_verb_writes_json_and_prints_a_table(tmp_path, capsys):
    assert (
        main(["profile", "unet-xs", "vit_upernet-xs", "--px", "32", "--measure", "2", "--out", str(tmp_path)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "unet-xs" in printed and "samples/s" in printed
    written = json.loads((tmp_path / "vit_upernet-xs.json").read_text())
    assert written["measured"]["samples_per_second"] > 0
    assert written["published"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile"], "--all"),
        (["profile", "unet-s", "--all"], "--all"),
        (["profile", "--all", "--px", "64"], "128 px"),
        (["profile", "unet-xxl"], "the ladder has xs, s, m"),
        (["profile", "resnet-s"], "did you mean 'unet'"),
        (["profile", "unet-s", "--px", "20"], "multiples of 8"),
    ],
)
def test_bad_input(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_all_published_models_are_on_the_ladder():
    assert set(PUBLISHED) <= set(rungs())
