import shutil

import pytest

import geoladder.runs.provenance as code
from geoladder.registry import ARCHITECTURES, TASKS


@pytest.fixture
def copy_of_the_package(tmp_path, monkeypatch):
    root = tmp_path / "geoladder"
    shutil.copytree(code.ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    monkeypatch.setattr(code, "ROOT", root)
    code.code_fingerprint.cache_clear()
    yield root
    code.code_fingerprint.cache_clear()


def fingerprints() -> dict[str, str]:
    code.code_fingerprint.cache_clear()
    return {name: code.code_fingerprint("pretrain", name) for name in ARCHITECTURES}


def append(file, text):
    file.write_text(file.read_text() + text)


def test_comments_and_docstrings_do_not_count(copy_of_the_package):
    before = fingerprints()
    append(copy_of_the_package / "training/pretrain.py", "\n# a remark\n")
    file = copy_of_the_package / "models/unet.py"
    file.write_text('"""Another docstring."""\n' + file.read_text().split('"""', 2)[2])
    assert fingerprints() == before


def test_an_edit_of_one_family_moves_that_family_alone(copy_of_the_package):
    before = fingerprints()
    append(copy_of_the_package / "models/unet.py", "\nNEW = 1\n")
    moved = {name for name, value in fingerprints().items() if value != before[name]}
    assert moved == {"unet"}


def test_an_edit_of_a_family_reaches_those_that_import_it(copy_of_the_package):
    before = fingerprints()
    append(copy_of_the_package / "models/mamba2d.py", "\nNEW = 1\n")
    moved = {name for name, value in fingerprints().items() if value != before[name]}
    assert moved == {"mamba2d", "mamba_upernet"}


def test_an_edit_of_an_entrys_looks_and_rates_moves_none(copy_of_the_package):
    """Sizes and rates stand in the specs."""
    before = fingerprints()
    append(copy_of_the_package / "models/architectures/unet.py", "\nNEW = 1\n")
    assert fingerprints() == before


def test_an_edit_of_what_a_stage_imports_moves_all(copy_of_the_package):
    before = fingerprints()
    append(copy_of_the_package / "data/batches/batch.py", "\nNEW = 1\n")
    assert all(fingerprints()[name] != before[name] for name in before)


def test_an_edit_of_a_figure_moves_none(copy_of_the_package):
    before = fingerprints()
    append(copy_of_the_package / "report/figures/scaling.py", "\nNEW = 1\n")
    assert fingerprints() == before


@pytest.mark.parametrize(
    ("file", "moved"), [("tasks/roads.py", ["roads"]), ("density.py", ["roads", "buildings"])]
)
def test_an_edit_of_a_task_moves_fine_tuning_on_it_alone(copy_of_the_package, file, moved):
    def by_task():
        code.code_fingerprint.cache_clear()
        return {task: code.code_fingerprint("finetune", "unet", task) for task in TASKS}

    before, pretraining = by_task(), fingerprints()
    append(copy_of_the_package / "training" / file, "\nNEW = 1\n")
    after = by_task()
    assert {task for task in TASKS if after[task] != before[task]} == set(moved)
    assert fingerprints() == pretraining
