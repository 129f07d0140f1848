"""A study that is killed at random moments ends with the files of a study left alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_study_killed_at_random_ends_with_the_same_files(fresh, tmp_path):
    """Few kills; benchmarks/kills.py makes thirty."""
    fresh.study["corpora"] = {"majortom": fresh.study["corpora"]["majortom"]}
    fresh.study["pretrain"]["grid"][0] |= {"corpora": ["majortom"], "sizes": ["xs"]}
    fresh.study["pretrain"]["grid"].pop()
    fresh.study |= {"linear": None, "gates": None}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(fresh.study))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/kills.py", "--kills", "5", "--study", tmp_path / "study.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kills" in done.stdout and "0 different" in done.stdout
