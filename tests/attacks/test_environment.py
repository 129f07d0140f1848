"""Surroundings that clusters, containers and notebooks give: each verb must work in them as anywhere else."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from attack import Attack, attacked_by, run

from tiny_archives import BenchFolder

ODD = 'füße\'s "$(touch executed)" ; {x} folder'
"""A name that a shell, a format string or an ASCII codec would trip over."""
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STUDY = Path(__file__).parents[2] / "studies/ci.yaml"
IMAGES = "europe_3_train_s2.npy"
INSPECT = ["inspect", IMAGES, "--png", "out.png"]


def _study(folder, name="study.yaml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# Größe, 規模\n{STUDY.read_text(encoding='utf-8')}", encoding="utf-8")


def _images(folder, below="."):
    BenchFolder(folder / below).add("europe", "3", "train", 2)


def _matplotlibrc(folder):
    _images(folder)
    (folder / "matplotlibrc").write_text(
        "text.usetex: True\nsavefig.transparent: True\nsavefig.bbox: tight\nfigure.dpi: 7\nbackend: TkAgg\n"
    )


def _same_picture(folder):
    """The picture is the one that is drawn without a matplotlibrc, to the byte."""
    (folder / "matplotlibrc").unlink()
    run([*INSPECT[:-1], "plain.png"], folder, folder.parent)
    assert (folder / "plain.png").read_bytes() == (folder / "out.png").read_bytes()


ATTACKS = [
    Attack(
        "a study in UTF-8 at a path of umlauts, quotes and blanks, under an ASCII locale",
        partial(_study, name=f"{ODD}/study.yaml"),
        ["cells", "--study", f"{ODD}/study.yaml"],
        None,
        stated="pretraining cells",
        fresh=True,
        environment=ASCII,
    ),
    Attack(
        "a bench at such a path",
        partial(_images, below=ODD),
        ["bench-index", "--bench", ODD, "--out", f"{ODD}/out.parquet"],
        None,
        stated=f"{ODD}: 1 files",
    ),
    Attack(
        "a picture at such a path",
        partial(_images, below=ODD),
        ["--log", f"{ODD}/log.txt", "inspect", f"{ODD}/{IMAGES}", "--png", f"{ODD}/out.png"],
        None,
        stated=f"quicklook: {ODD}/out.png",
    ),
    Attack(
        "a study that is missing at such a path",
        lambda _: None,
        ["cells", "--study", f"{ODD}/study.yaml"],
        f"{ODD}/study.yaml; give --study FILE",
    ),
    Attack(
        "a matplotlibrc that wants LaTeX",
        _matplotlibrc,
        INSPECT,
        None,
        stated="quicklook: out.png",
        check=_same_picture,
        fresh=True,
    ),
    Attack(
        "the backend of a notebook, and a home that cannot be written",
        _images,
        INSPECT,
        None,
        stated="quicklook: out.png",
        fresh=True,
        environment={
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            **{"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "MPLCONFIGDIR": "/dev/null"},
        },
    ),
    Attack(
        "a temporary folder with a long name, which is missing",
        _images,
        INSPECT,
        None,
        stated="quicklook: out.png",
        environment={"TMPDIR": "/tmp/" + 3 * f"{'x' * 60}/"},
    ),
]
test_environment = attacked_by(ATTACKS)


def test_a_umask_of_077_is_kept(tmp_path):
    _images(tmp_path)
    before = os.umask(0o077)
    try:
        answer = run(INSPECT, tmp_path, tmp_path)
    finally:
        os.umask(before)
    assert answer.status == 0 and (tmp_path / "out.png").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("streams", "status"), [("| true", 0), ("<&- >&- 2>&-", 0)])
def test_a_reader_that_left_or_a_closed_terminal_are_no_failure(streams, status):
    command = f"'{sys.executable}' -m geoladder cells --study '{STUDY}' {streams}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")


def test_kernels_are_compiled_in_memory_where_nothing_can_be_written(tmp_path):
    (tmp_path / "kernel.py").write_text(
        "from geoladder.runs.compiled import njit\n@njit(cache=True)\ndef one(): return 1\nprint(one())\n"
    )
    (tmp_path / "__pycache__").write_text("a file where numba would make a folder")
    homeless = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, tmp_path / "kernel.py"],
        env=homeless | {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n"
    assert done.stderr.count("compiled code is kept in memory only (cannot cache function 'one'") == 1
