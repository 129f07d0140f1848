"""One flipped bit in each kind of file of a finished study, its time stamps kept, is named with what mends it."""

import os
import re
import shlex
from pathlib import Path

import pytest

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.runs.digest import seal_path
from geoladder.runs.verify import verify

RUN = "results/pretrain/majortom/unet-s/seed0"
TUNED = "results/finetune/majortom/unet-xs/roads/seed0/n1"
KINDS = [
    *("data/majortom/archive/images/part_00001.parquet", "data/majortom/archive/metadata.parquet"),
    *("data/bench/archive/japan_1_val_s2.npy", "data/bench/index.parquet"),
    *("data/majortom/index.parquet", "data/majortom/ledger.csv"),
    *("data/majortom/chips/10m-00000.npy", "data/majortom/chips/20m-00000.npy"),
    *("data/majortom/chips/manifest.parquet", "data/majortom/chips/dropped.csv", "data/stats.json"),
    *(f"{RUN}/{name}" for name in ("model.safetensors", "model.json", "log.csv", "metrics.json")),
    *("results/splits/roads/seed0.parquet", f"{TUNED}.json", f"{TUNED}.npz"),
    *("results/linear/majortom/unet-xs/seed0/roads.json", "results/trivial/roads/seed0.json"),
    *("results/ledger.json", "results/results.csv", "results/fits/laws.json"),
    *("results/tables/synthetic_gates.csv", "results/figures/scaling.csv", "results/figures/scaling.png"),
]
READ_BY = {
    "data/bench/index.parquet": "trivial/roads/seed0",
    "data/majortom/index.parquet": "chips/majortom",
    "data/majortom/chips/manifest.parquet": "stats",
    "data/majortom/chips/10m-00000.npy": "pretrain/majortom/unet-s/seed0",
    "data/majortom/chips/20m-00000.npy": "stats",
    "data/stats.json": "pretrain/majortom/unet-s/seed0",
    "results/splits/roads/seed0.parquet": "trivial/roads/seed0",
    f"{RUN}/model.safetensors": "linear/majortom/unet-s/seed0",
    f"{RUN}/model.json": "linear/majortom/unet-s/seed0",
    f"{RUN}/metrics.json": "collect",
    f"{TUNED}.json": "collect",
    "results/results.csv": "fit",
    "results/fits/laws.json": "figure_scaling",
}
"""Files, and the log of a job that reads them."""


def flip(path: Path) -> None:
    """Change one bit in the middle; a second time undoes it."""
    state, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.slow
def test_verify_names_a_flipped_bit_in_each_kind_of_file_and_an_output_that_mends_it(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    summary = project.run("--summary", target="all").stdout + project.run("--summary").stdout
    outputs = {line.split("\t")[0] for line in summary.splitlines()}
    assert "as they were written" in verify(Path())
    for kind in [*KINDS, str(seal_path(Path(KINDS[-1])))]:
        flip(Path(kind))
        with pytest.raises(GeoladderError) as problem:
            verify(Path())
        message = str(problem.value)
        assert message.startswith("1 of ") and kind in message, message
        if not kind.endswith("ledger.json"):
            (forced,) = re.findall(r"--forcerun (.*)", message)
            assert set(shlex.split(forced)) <= outputs, message
        flip(Path(kind))
    assert "as they were written" in verify(Path())


def commands(project) -> dict[str, list[str]]:
    """Words of the command of each job, by its log."""
    done = project.run("--dry-run", "--printshellcmds", "--forceall")
    text = done.stdout + done.stderr
    for _ in range(2):  # one may stand in another
        text = re.sub(r'"\$\(dirname ([^\s)"]+)\)"', lambda match: str(Path(match[1]).parent), text)
    jobs = re.findall(r"Shell command: geoladder (--log logs/(\S+)\.log .*)", text)
    return {log: shlex.split(words) for words, log in jobs}


@pytest.mark.slow
def test_the_next_job_that_reads_a_flipped_bit_stops_and_says_what_mends_it(project, monkeypatch, capsys):
    """Each kind that jobs read, but for archives and benches, which may be anybody's."""
    monkeypatch.chdir(project.folder)
    jobs = commands(project)
    for kind, log in READ_BY.items():
        flip(Path(kind))
        assert main(jobs[log]) == 1, kind
        message = capsys.readouterr().err
        assert kind in message and "damaged or edited" in message and "snakemake" in message, message
        if log == "collect":
            assert main(["status", "--study", "study.yaml"]) == 0
            assert re.search(rf"damaged +{kind}", capsys.readouterr().out)
        flip(Path(kind))
    assert main(["verify"]) == 0
