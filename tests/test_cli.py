import subprocess
import sys

import pytest

from geoladder.cli import main


def test_help_does_not_import_the_heavy_libraries():
    listing = "import sys; from geoladder.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
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
