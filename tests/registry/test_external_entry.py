"""An external architecture is one file, too: from released weights to the tables, through the whole graph."""

import pandas as pd
import pytest
import yaml
from safetensors.torch import save_file

from geoladder.models.terramind import TerraMind

SMALL = {"width": 32, "depth": 4, "heads": 2, "order": [-1, 0, 1, 2, 7]}
ENTRY = f"""
from geoladder.registry.architecture import Architecture, Input, Release, multiples

ARCHITECTURE = Architecture(
    name="toy",
    title="Toy",
    colour="#aa3377",
    classes={{"": "geoladder.models.terramind:TerraMind"}},
    rungs={{"xs": {SMALL}}},
    base_width=32,
    pretrain_lr=None,
    finetune_lr=0.01,
    sides_px=multiples(32),
    input=Input(bands={{"B02": (1000.0, 500.0)}}, harmonise="none"),
    release=Release(files={{"xs": "owner/toy/toy.safetensors"}}, rules={{r"(.*)": r"encoder.\\1"}}, ignore=[]),
)
"""


@pytest.mark.slow
def test_released_weights_go_from_a_file_to_the_tables(package):
    package.add("models/architectures/toy.py", ENTRY)
    package.study("unet")
    file = package.folder / "study.yaml"
    study = yaml.safe_load(file.read_text())
    study["bench"] |= {"patch_px": 32}
    study["finetune"]["grid"] = [{"corpora": ["released"], "architectures": ["toy"], "sizes": ["xs"]}]
    study |= {"external": {"toy-xs": {"weights": "toy.safetensors"}}, "linear": {"draws": 1, "n": [1]}}
    file.write_text(yaml.safe_dump(study))

    done = package.make("results/tables/cells.csv")
    assert done.returncode != 0
    assert "hf download owner/toy toy.safetensors" in done.stdout + done.stderr
    save_file(TerraMind(**SMALL).encoder.state_dict(), package.folder / "toy.safetensors")
    done = package.make("results/tables/cells.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(package.folder / "results/results.csv")
    released = results[results.corpus == "released"]
    assert set(released.stage) == {"finetune", "linear"} and set(released.architecture) == {"toy"}
    verdicts = pd.read_csv(package.folder / "results/tables/external.csv")
    assert len(verdicts) == 1 and verdicts.verdict.notna().all()
