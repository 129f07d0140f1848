import subprocess
import sys

import pytest

from geoladder.cli import main
from geoladder.errors import GeoladderError


def test_help_does_not_import_the_heavy_libraries():
    listing = "import sys; from geoladder.cli import main\n"
    listing += "for verb in ([], ['fit'], ['pretrain']): main([*verb, '--help'])\n"
    listing += "print(sorted({'torch', 'numpy', 'pandas', 'pydantic', 'lightning'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert out.stdout.rstrip().endswith("[]")
    assert "pretrain" in out.stdout


def test_a_mistake_ends_in_one_message_and_status_1(tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text("pretrian: {}\n")
    assert main(["cells", "--study", str(study)]) == 1
    error = capsys.readouterr().err
    assert "did you mean 'pretrain'" in error
    assert "Traceback" not in error


def test_cells_prints_every_cell_with_its_parameters(capsys):
    assert main(["cells", "--study", "studies/ci.yaml"]) == 0
    out = capsys.readouterr().out
    assert out.count("majortom") == 6
    assert "6 pretraining cells" in out


def test_an_unknown_size_names_the_sizes_there_are(tmp_path, capsys):
    from pathlib import Path

    study = tmp_path / "study.yaml"
    study.write_text(Path("studies/ci.yaml").read_text().replace("sizes: [xs, s]", "sizes: [xs, xxl]"))
    assert main(["cells", "--study", str(study)]) == 1
    error = capsys.readouterr().err
    assert "xxl" in error
    assert "xs" in error


@pytest.mark.parametrize("path", ["nowhere.parquet", "nowhere"])
def test_inspect_of_nothing_says_so(path, capsys):
    assert main(["inspect", path]) == 1
    assert path in capsys.readouterr().err


def test_a_wrong_verb_names_the_nearest(capsys):
    assert main(["pretrian"]) == 2
    assert 'Did you mean "pretrain"?' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["collect", "--ledger", "a", "--out", "b", "--devices", "8"], "--devices"),
        (["fit", "runs.csv"], "--out requires an argument"),
        (["plan", "--gpus", "many"], "--gpus"),
    ],
)
def test_a_verb_takes_only_its_own_options(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"geoladder {words[0]}: ") and message in error
    assert len(error.splitlines()) == 1


def test_a_spec_that_is_none_is_one_message(capsys):
    assert main(["stats", "--spec", '{"chip": 1}', "--chips", "x", "--out", "y"]) == 1
    error = capsys.readouterr().err
    assert "--spec is no StatsSpec" in error and "chips: Field required" in error


def test_the_version_and_the_laws_can_be_asked_for(capsys):
    from geoladder import __version__
    from geoladder.scaling.laws import LAW_NAMES, LOSS_NAMES
    from geoladder.scaling.laws.forms import FORMS
    from geoladder.scaling.laws.loss import Loss

    assert tuple(FORMS) == LAW_NAMES
    with pytest.raises(GeoladderError, match=f"allowed are: {', '.join(LOSS_NAMES)}$"):
        Loss("absolute")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__
    assert main(["fit", "--help"]) == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert {*LAW_NAMES, *LOSS_NAMES} <= set(words)


def test_the_log_is_named_before_the_verb_and_keeps_the_error(tmp_path, capsys):
    log = tmp_path / "logs/cells.log"
    assert main(["--log", str(log), "cells", "--study", str(tmp_path / "none.yaml")]) == 1
    assert "error: no study at" in log.read_text()


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "geoladder", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
