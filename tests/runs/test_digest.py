"""Seals of files: what is written, what is refused when it is read, and what `geoladder verify` says."""

import errno
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.runs import digest
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.digest import Seal, block_sums, discard, intact, seal_path, sha256
from geoladder.runs.remake import remake
from geoladder.runs.temporary import temporary
from geoladder.runs.verify import verify


def flip(path, at):
    """Change one byte of a file and keep its time stamps, as a rotten disk does."""
    state = path.stat()
    with path.open("rb+") as handle:
        handle.seek(at)
        byte = handle.read(1)[0]
        handle.seek(at)
        handle.write(bytes([byte ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture
def result(tmp_path):
    """A result as the workflow writes it."""
    (tmp_path / ".snakemake").mkdir()
    path = tmp_path / "results/finetune/globe/unet-xs/roads/seed0/n4.json"
    write_json(path, {"fingerprint": "0123456789ab", "metrics": {"r2": 0.3}})
    return path


def test_a_seal_says_size_digest_and_what_the_file_was_made_from(result):
    assert Seal.read(result) == Seal(result.stat().st_size, sha256(result), "0123456789ab")
    assert intact(result, "0123456789ab") == result


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_changed_byte_of_the_file_or_of_its_seal_is_noticed(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("sealed") / "file.bin"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    assert intact(path) == path
    changed = data.draw(st.sampled_from([path, seal_path(path)]))
    flip(changed, data.draw(st.integers(0, changed.stat().st_size - 1)))
    with pytest.raises(GeoladderError, match=r"file\.bin"):
        intact(path)
    with pytest.raises(GeoladderError, match=r"file\.bin"):
        verify(path.parent)


def test_a_changed_file_is_refused_with_the_command_that_makes_it_again(result):
    flip(result, result.read_text().index("0.3"))
    with pytest.raises(GeoladderError) as problem:
        intact(result)
    for part in (
        str(result),
        "damaged or edited",
        "--forcerun results/finetune/globe/unet-xs/roads/seed0/n4.json. Where",
        str(seal_path(result)),
    ):
        assert part in str(problem.value)
    seal_path(result).unlink()  # the change was meant
    assert intact(result) == result


def test_a_file_of_another_study_is_refused(result):
    with pytest.raises(GeoladderError, match=r"was made from 0123456789ab, but ffffffffffff is wanted"):
        intact(result, "ffffffffffff")


def test_large_files_are_read_only_where_all_of_them_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "SMALL_BYTES", 10)
    result = tmp_path / "large.json"
    write_json(result, list(range(1000)))
    assert intact(result, whole=True) == result
    flip(result, 20)
    assert intact(result) == result
    with pytest.raises(GeoladderError, match="digest"):
        intact(result, whole=True)
    result.write_bytes(result.read_bytes()[:-1])
    with pytest.raises(GeoladderError, match=r"bytes instead of"):
        intact(result)


@pytest.mark.parametrize("size", [2**20 - 1, 2**20 + 4097])
def test_sums_of_blocks_notice_changed_lost_and_moved_bytes(tmp_path, size):
    path, rng = tmp_path / "shard", np.random.default_rng(size)
    content = rng.bytes(size)
    block = 4096
    variants = [
        content,
        content[:-1] + bytes([content[-1] ^ 1]),
        bytes([content[0] ^ 128]) + content[1:],
        bytes(block) + content[block:],
        content[block : 2 * block] + content[:block] + content[2 * block :],
        bytes(size),
    ]
    sums = set()
    for variant in variants:
        path.write_bytes(variant)
        sums.add(block_sums(path))
    assert len(sums) == len(variants)


def test_a_digest_is_taken_once_unless_the_file_changes(result, monkeypatch):
    read = []
    monkeypatch.setattr(digest, "sha256", lambda path: read.append(path) or sha256(path))
    intact(result), intact(result)
    assert read == [result]
    flip(result, 5)
    with pytest.raises(GeoladderError):
        intact(result)


def test_files_from_elsewhere_and_seals_lost_in_a_crash_are_taken_as_they_are(tmp_path):
    path = tmp_path / "own.json"
    path.write_text("{}")
    assert intact(path) == path
    seal_path(path).write_text("")
    assert intact(path) == path
    assert intact(tmp_path / "missing") == tmp_path / "missing"


def test_a_failed_write_leaves_file_and_seal(result):
    with pytest.raises(RuntimeError), atomic_path(result) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert intact(result, "0123456789ab") == result
    discard(result)
    assert not list(result.parent.iterdir())


def test_names_and_places_where_no_seal_can_be_are_taken_as_they_are(tmp_path):
    (tmp_path / "file").write_text("{}")
    long = tmp_path / ("x" * 255)
    long.write_text("{}")
    for path in (long, tmp_path / "file/inside"):
        assert intact(path) == path


@pytest.mark.parametrize("last", range(5))
@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_a_kill_between_file_and_seal_leaves_nothing_that_is_refused(result, monkeypatch, step, last):
    """The old file or the new one, under its own seal or none."""
    original, steps = getattr(Path, step), []

    def killed(path, *arguments, **options):
        if len(steps) == last:
            raise KeyboardInterrupt
        steps.append(path)
        return original(path, *arguments, **options)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, step, killed)
        write_json(result, {"fingerprint": "0123456789ab", "metrics": {"r2": 0.44}})
    assert json.loads(intact(result).read_text())["metrics"]["r2"] in (0.3, 0.44)


def test_a_file_that_a_run_replaces_while_it_is_read_is_not_called_damaged(result, monkeypatch):
    read, replaced = Seal.read, []

    def read_and_replace(path):
        seal = read(path)
        if not replaced:
            replaced.append(write_json(result, {"fingerprint": "0123456789ab", "metrics": {}}))
        return seal

    monkeypatch.setattr(Seal, "read", read_and_replace)
    assert intact(result) == result


def test_verify_names_each_changed_file_and_counts_the_others(result, tmp_path, capsys, monkeypatch):
    write_json(result.with_name("n16.json"), {"a": 1})
    write_json(tmp_path / "results/gone.json", {})
    (tmp_path / "results/gone.json").unlink()
    (tmp_path / "results/own.csv").write_text("a,b\n")
    (tmp_path / "results/loop").symlink_to(tmp_path)
    temporary(seal_path(tmp_path / "results/gone.json")).write_text("half")
    monkeypatch.chdir(tmp_path)
    assert main(["verify"]) == 0
    said = capsys.readouterr().out
    assert (
        "2 files" in said and "older than seals: 1" in said and "seal: 1, such as results/gone.json" in said
    )
    flip(result, 3)
    assert main(["verify", "results"]) == 1
    said = capsys.readouterr().err
    assert "1 of 4 files" in said and str(result.relative_to(tmp_path)) in said and "--forcerun" in said
    assert main(["verify", str(result.with_name("n16.json"))]) == 0
    assert main(["verify", "nowhere"]) == 1


def test_verify_says_where_it_can_say_nothing(tmp_path, capsys):
    (tmp_path / "own.csv").write_text("a,b\n")
    assert main(["verify", str(tmp_path)]) == 1
    assert "copied without hidden files" in capsys.readouterr().err


def test_verify_does_not_leave_out_a_folder_that_cannot_be_read(result, tmp_path, monkeypatch):
    """As root reads everything, the system's refusal is played."""
    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith("finetune"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="finetune"):
        verify(tmp_path)


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_verify_takes_what_a_run_does_meanwhile_for_no_damage(result, tmp_path, monkeypatch, change):
    module, done = sys.modules["geoladder.runs.verify"], []

    def changing(path, advance):
        if not done and change == "replaced":
            done.append(write_json(result, {"fingerprint": "0123456789ab", "metrics": {}}))
        elif not done:
            done.append(discard(result))
        return sha256(path, advance)

    monkeypatch.setattr(module, "sha256", changing)
    assert "1 files" in verify(tmp_path)


def test_a_copied_folder_keeps_its_seals(result, tmp_path):
    shutil.copytree(result.parent, tmp_path / "elsewhere")
    flip(tmp_path / "elsewhere/n4.json", 9)
    with pytest.raises(GeoladderError, match="make it again with the command that wrote it"):
        intact(tmp_path / "elsewhere/n4.json")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("data/globe/chips/10m-00000.npy", "data/globe/chips/manifest.parquet"),
        ("data/globe/ledger.csv", "data/globe/ledger.csv"),
        ("data/globe/archive/images/part_00001.parquet", "data/globe/archive/metadata.parquet"),
        ("data/bench/archive/japan_1_val_s2.npy", "data/bench/archive/metadata/tiles_metadata.json"),
        ("data/globe/labels/roads.npy", "data/globe/labels/labels.json"),
        ("results/gates/a/b/roads/seed0/n4.npz", "results/gates/a/b/roads/seed0/n4.json"),
        ("results/finetune/a/b/roads/seed0/n4/model.json", "results/finetune/a/b/roads/seed0/n4.json"),
        ("results/linear/a/b/seed0/roads/n4/model.json", "results/linear/a/b/seed0/roads.json"),
        ("results/tables/curves.tex", "results/tables/cells.csv"),
        ("results/tables/synthetic_gates.csv", "results/tables/synthetic_gates.csv"),
        ("results/pretrain/a/b/seed0/model.safetensors", "results/pretrain/a/b/seed0/model.safetensors"),
    ],
)
def test_files_are_made_again_with_the_output_of_their_rule(tmp_path, monkeypatch, name, output):
    monkeypatch.chdir(tmp_path)
    command = f"snakemake --cores all --configfile <the study's> --forcerun {output}"
    assert remake(Path(name)) == f"make it again: {command}"


@pytest.mark.parametrize("name", ["linear/a/b/seed0/roads", "finetune/a/b/roads/seed0/n4"])
def test_files_of_a_study_with_results_of_its_own_are_made_again_with_the_output_of_their_rule(name):
    assert remake(Path(f"results/wide/{name}/model.json")).endswith(f"--forcerun results/wide/{name}.json")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("results/sweep/a/b/seed0/x0.5/metrics.json", "results/figures/lr.pdf"),
        ("results/wide/sweep/results.csv", "results/wide/figures/lr.pdf"),
        ("results/published/figure4.csv", "results/published/figure4.csv"),
        ("results/figures/coverage_globe.png", "results/figures/coverage_globe.png"),
    ],
)
def test_what_is_made_only_when_it_is_asked_for_is_asked_for(name, target):
    assert remake(Path(name)).endswith(f"--forcerun {name} -- {target}")


def test_groups_of_chips_are_cut_again_with_their_manifest(tmp_path, monkeypatch):
    done = tmp_path / "data/globe/chips-groups/1-of-2.done"
    done.parent.mkdir(parents=True)
    done.touch()
    monkeypatch.chdir(tmp_path)
    outputs = "data/globe/chips-groups/1-of-2.done data/globe/chips/manifest.parquet"
    assert remake(Path("data/globe/chips/10m-00000.npy")).endswith(f"--forcerun {outputs}")


def test_the_project_of_a_file_is_the_nearest_in_which_snakemake_ran(tmp_path, monkeypatch):
    project = tmp_path / "results/a project"
    (project / ".snakemake").mkdir(parents=True)
    (project / "results").mkdir()
    words = f"--directory '{project}' --configfile <the study's> --forcerun results/results.csv"
    assert words in remake(project / "results/results.csv")
    monkeypatch.chdir(tmp_path)
    assert words in remake(Path("results/a project/results/results.csv"))
    monkeypatch.chdir(project / "results")
    assert words in remake(Path("results.csv"))
    assert remake(tmp_path / "data/fit.json") == "make it again with the command that wrote it"


def test_parts_that_were_fetched_are_fetched_again(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/plan.json").write_text(json.dumps({}))
    part = tmp_path / "images/part 1.parquet"
    assert f"rm '{part}'" in remake(part) and "geoladder fetch" in remake(part)
