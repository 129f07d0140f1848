"""The profile for Slurm knows every rule that asks for a GPU."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GPU = "**TRAINING_RESOURCES"


def test_every_rule_with_a_gpu_runs_on_the_partition_that_has_them():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    bodies = dict(re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL))
    on_gpu = {name for name, body in bodies.items() if GPU in body or "gres=" in body}
    on_gpu |= {
        name
        for parent, name in re.findall(r"^use rule (\w+) as (\w+)", text, re.MULTILINE)
        if parent in on_gpu
    }
    assert {"pretrain", "oracle", "sweep", "finetune", "choose_rate", "linear"} <= on_gpu
    profile = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())["set-resources"]
    assert {name for name, resources in profile.items() if resources["slurm_partition"] == "gpu"} == on_gpu
