"""A run killed in the middle of training, and the same command again."""

import json
import os
import signal
import subprocess
import time

import pytest
from safetensors.numpy import load_file

CELL = "results/pretrain/majortom/unet-s/seed0"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_resumes_and_ends_with_the_same_numbers(project, number):
    """Every process of the run is shot once a checkpoint exists; the figure's numbers must not notice."""
    project.study["pretrain"] |= {"samples": 1600, "checkpoint_every": 4}
    project.write()
    target = f"{CELL}/metrics.json"
    done = project.run(target=target)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed = json.loads((project.folder / target).read_text())
    weights = load_file(project.folder / CELL / "model.safetensors")
    for file in ("metrics.json", "model.safetensors", "model.json", "log.csv"):
        (project.folder / CELL / file).unlink()

    run = subprocess.Popen(
        project.command(target=target),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state = project.folder / CELL / "state"
    deadline = time.monotonic() + 120
    while not any(state.glob("*/step-*.ckpt")):
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    os.killpg(run.pid, number)
    run.wait()
    assert not (project.folder / target).exists()

    done = project.run(target=target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resum" in (project.folder / "logs/pretrain/majortom/unet-s/seed0.log").read_text().lower()
    again = json.loads((project.folder / target).read_text())
    assert again["metrics"] == undisturbed["metrics"]
    for name, value in load_file(project.folder / CELL / "model.safetensors").items():
        assert (value == weights[name]).all(), name
