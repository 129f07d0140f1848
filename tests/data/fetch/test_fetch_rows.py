"""Single rows of remote parts: the bytes that come, the parts they become, and every way to be interrupted."""

import itertools
import json
import resource
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from geoladder.cli import main
from geoladder.data.archives.majortom import COLUMNS, MajorTom
from geoladder.data.fetch import file as fetch_file_module
from geoladder.data.fetch import rows as rows_module
from geoladder.data.fetch.archive import fetch, prepare
from geoladder.data.fetch.file import fetch_ranges
from geoladder.data.fetch.http import Patience, Server
from geoladder.data.fetch.plan import RemoteFile, describe, read_record
from geoladder.data.fetch.rows import row_ranges
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Select

QUICK = Patience(attempts=4, base_s=0.001, ceiling_s=0.004, timeout_s=5.0)
PART = "images/part_00001.parquet"
FIRST = Select(max_cloud_percent=0)
"""The first row of the first part."""
TWO = Select(max_cloud_percent=10)
"""The first two rows of the first part."""
AFTER_THE_FOOTER = [{}, {}]
"""No fault while the tail and the footer come."""
SPREAD = Select(boxes=[(-60, -180, -30, 180), (40, -180, 60, 180)])
"""The first three rows, which are the first part, and the last two of the last."""


@pytest.fixture(autouse=True)
def no_joining(monkeypatch):
    """Rows of tests are a few kB; joined, they would be whole parts."""
    monkeypatch.setattr(rows_module, "GAP_BYTES", 0)


def get(site, folder, select=TWO, **options):
    return fetch(prepare(site.url, select, folder, patience=QUICK), folder, patience=QUICK, **options)


def same_tiles(folder, original):
    """Number of tiles of a fetched archive, each the same as in the original."""
    here, there = MajorTom(folder), MajorTom(original)
    listed = there.metadata().set_index("grid_cell")
    rows = here.metadata()
    for cell, part, row in rows[["grid_cell", "part", "row"]].itertuples(index=False):
        tile, expected = here.read(part, row), there.read(listed["part"][cell], listed["row"][cell])
        assert tile.grid_cell == cell == expected.grid_cell
        for name in ("dn10", "dn20", "cloud_mask"):
            np.testing.assert_array_equal(getattr(tile, name), getattr(expected, name))
    return len(rows)


def test_rows_arrive_as_they_are_and_nothing_else_does(stocked, archive, tmp_path):
    manifest = json.loads(get(stocked, tmp_path / "out").read_text())
    assert same_tiles(tmp_path / "out", archive.folder) == 2
    assert list(manifest["files"]) == [PART] and manifest["files"][PART]["rows"] == [0, 1]
    remote = pq.read_metadata(archive.folder / PART)
    wanted = sum(behind - first for first, behind in row_ranges(remote, [0, 1], COLUMNS))
    tail = int.from_bytes(stocked.files[PART][-8:-4], "little") + 8
    times = sum(
        remote.row_group(row).column(remote.schema.names.index("timestamp")).total_compressed_size
        for row in (0, 1)
    )
    assert stocked.sent(PART) == wanted + times + 8 + tail
    here = pq.ParquetFile(tmp_path / "out" / PART)
    assert set(here.schema_arrow.names) == {*COLUMNS, "timestamp"}
    assert here.num_row_groups == 2
    left = {path.name for path in tmp_path.rglob("*") if "fetching" in path.name or ".tmp" in path.name}
    assert not left


def test_parts_come_whole_where_most_of_them_is_wanted(stocked, archive, tmp_path):
    plan = prepare(stocked.url, SPREAD, tmp_path / "out", patience=QUICK)
    assert [part.rows for part in plan.parts] == [None, (1, 2)]
    assert "1 of them are fetched whole" in describe(plan) and "about" in describe(plan)
    assert plan.size_bytes == pytest.approx(len(stocked.files[PART]) * (1 + 2 / 3), rel=0.02)
    fetch(plan, tmp_path / "out", patience=QUICK)
    assert same_tiles(tmp_path / "out", archive.folder) == 5
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]


def test_a_plan_survives_its_file(stocked, tmp_path):
    plan = prepare(stocked.url, SPREAD, tmp_path / "out", patience=QUICK)
    assert prepare(stocked.url, SPREAD, tmp_path / "out", patience=QUICK) == plan
    whole = prepare(stocked.url, SPREAD, tmp_path / "out", patience=QUICK, whole_parts=True)
    assert [part.rows for part in whole.parts] == [None, None]


def test_a_larger_selection_adds_rows_and_asks_for_no_footer_again(stocked, archive, tmp_path):
    folder = tmp_path / "out"
    later = Select(since="2021-02-01", until="2021-02-28")
    get(stocked, folder, later)
    assert MajorTom(folder).metadata()["row"].tolist() == [0]  # the second row there, the first here
    stocked.log.clear()
    get(stocked, folder)
    one = row_ranges(pq.read_metadata(archive.folder / PART), [0], [*COLUMNS, "timestamp"])
    assert stocked.sent(PART) == sum(behind - first for first, behind in one)
    assert same_tiles(folder, archive.folder) == 2
    stocked.log.clear()
    get(stocked, folder, later)
    assert stocked.sent(PART) == 0 and MajorTom(folder).metadata()["row"].tolist() == [1]
    assert same_tiles(folder, archive.folder) == 1


def test_rows_after_the_whole_part_and_before_it(stocked, archive, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder)
    get(stocked, folder, Select())
    assert (folder / PART).read_bytes() == stocked.files[PART]
    stocked.log.clear()
    get(stocked, folder)
    assert not stocked.gets(PART) and same_tiles(folder, archive.folder) == 2


@pytest.mark.parametrize(
    "faults",
    [
        [{"status": 503}, {"status": 429}, {"status": 500}],
        [{"stop_after": 100}, {"stop_after": 300}, {"stop_after": 0}],
        [{}, {"stop_after": 50}, {"status": 503}, {"stop_after": 10}],
    ],
)
def test_passing_failures_lose_and_repeat_no_byte(stocked, archive, tmp_path, faults):
    get(stocked, tmp_path / "calm")
    expected = stocked.sent(PART)
    stocked.log.clear()
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, *faults])
    get(stocked, tmp_path / "out")
    assert not stocked.faults[PART] and stocked.sent(PART) == expected
    assert (tmp_path / "out" / PART).read_bytes() == (tmp_path / "calm" / PART).read_bytes()
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_a_footer_that_breaks_is_asked_for_again(stocked, archive, tmp_path):
    stocked.faults[PART].extend(
        [{"status": 429}, {"stop_after": 3}, {}, {"stop_after": 100}, {"status": 503}]
    )
    get(stocked, tmp_path / "out")
    assert not stocked.faults[PART] and same_tiles(tmp_path / "out", archive.folder) == 2


def test_killed_between_two_blocks_continues_there(stocked, archive, tmp_path, monkeypatch):
    folder, blocks, write = tmp_path / "out", [], fetch_file_module.write_all
    plan = prepare(stocked.url, TWO, folder, patience=QUICK)

    def killed(handle, block):
        if len(blocks) == 4:
            raise KeyboardInterrupt
        blocks.append(len(block))
        write(handle, block)

    with monkeypatch.context() as patch:
        patch.setattr(fetch_file_module, "BLOCK_BYTES", 50)
        patch.setattr(fetch_file_module, "write_all", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(plan, folder, patience=QUICK, connections=1)
    assert (folder / "images/.part_00001.parquet.fetching").stat().st_size == 4 + sum(blocks) == 204
    assert not (folder / PART).exists() and not (folder / "metadata.parquet").exists()
    stocked.log.clear()
    get(stocked, folder)
    ranges = row_ranges(pq.read_metadata(archive.folder / PART), [0, 1], [*COLUMNS, "timestamp"])
    assert stocked.sent(PART) == sum(behind - first for first, behind in ranges) - 200
    assert same_tiles(folder, archive.folder) == 2


def test_what_was_begun_for_other_rows_is_thrown_away(stocked, archive, tmp_path):
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, {"stop_after": 300}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError, match="given up"):
        get(stocked, tmp_path / "out", FIRST)
    assert (tmp_path / "out/images/.part_00001.parquet.fetching").stat().st_size == 4 + 300
    stocked.faults.clear()
    get(stocked, tmp_path / "out")
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_what_an_older_version_left_is_thrown_away(stocked, archive, tmp_path):
    """It kept ranges one after another, and its note named no layout."""
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, {"stop_after": 300}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError, match="given up"):
        get(stocked, tmp_path / "out")
    unfinished = tmp_path / "out/images/.part_00001.parquet.fetching"
    unfinished.write_bytes(unfinished.read_bytes()[4:])
    note = unfinished.with_name(f"{unfinished.name}.json")
    facts = json.loads(note.read_text())
    assert facts.pop("layout") == 2
    note.write_text(json.dumps(facts))
    stocked.faults.clear()
    stocked.log.clear()
    get(stocked, tmp_path / "out")
    ranges = row_ranges(pq.read_metadata(archive.folder / PART), [0, 1], [*COLUMNS, "timestamp"])
    assert stocked.sent(PART) == sum(behind - first for first, behind in ranges)
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_a_part_that_changes_on_the_way_is_begun_again(stocked, archive, tmp_path):
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, {"stop_after": 300}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError, match="given up"):
        get(stocked, tmp_path / "out")
    stocked.faults.clear()
    stocked.tags[PART] = '"two"'
    get(stocked, tmp_path / "out")
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_damaged_bytes_are_fetched_again_and_in_the_end_refused(stocked, archive, tmp_path):
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, {"corrupt": 0}])
    get(stocked, tmp_path / "out")
    assert not stocked.faults[PART] and same_tiles(tmp_path / "out", archive.folder) == 2
    stocked.faults[PART].extend([*AFTER_THE_FOOTER, *[{"corrupt": 0}] * 99])
    with pytest.raises(GeoladderError, match=r"given up.*row 0 of images/part_00001.parquet cannot be read"):
        get(stocked, tmp_path / "other", FIRST)
    assert not (tmp_path / "other" / PART).exists()


def test_a_footer_of_another_edition_of_the_same_size_is_not_kept(stocked, archive, tmp_path):
    get(stocked, tmp_path / "out", FIRST)
    footer = next((tmp_path / "out/source/footers").glob("[!.]*"))
    remote = pq.read_metadata(archive.folder / PART)
    # As if the second row had lain where the third is now.
    pq.write_table(pq.read_table(archive.folder / PART).take([0, 2, 1]), tmp_path / "x", row_group_size=1)
    other = pq.read_metadata(tmp_path / "x")
    assert row_ranges(other, [1], COLUMNS) != row_ranges(remote, [1], COLUMNS)
    data = (tmp_path / "x").read_bytes()
    length = int.from_bytes(data[-8:-4], "little") + 8
    footer.write_bytes(data[-length:])
    with pytest.raises(GeoladderError, match=r"given up.*cannot be read"):
        get(stocked, tmp_path / "out", TWO)
    get(stocked, tmp_path / "out", TWO)
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_a_server_without_ranges(stocked, tmp_path):
    stocked.faults[PART].append({"no_ranges": True})
    with pytest.raises(GeoladderError, match=r"whole files only.*--whole-parts"):
        get(stocked, tmp_path / "out")


@pytest.mark.parametrize("number", [1, 2])
def test_a_server_that_loses_its_ranges(stocked, tmp_path, number):
    """After the tail, and after the footer."""
    stocked.faults[PART].extend([{}] * number + [{"no_ranges": True}] * 99)
    with pytest.raises(GeoladderError, match=r"whole files only.*--whole-parts"):
        get(stocked, tmp_path / "out")


def test_parts_of_another_make(stocked, archive, tmp_path):
    table = pq.read_table(archive.folder / PART)
    for change, message in (
        (lambda path: pq.write_table(table, path, row_group_size=3), "3 rows in 1 row groups"),
        (
            lambda path: pq.write_table(table.drop_columns(["B8A"]), path, row_group_size=1),
            "lacks the column.* B8A",
        ),
        (
            lambda path: pq.write_table(table.slice(0, 1), path, row_group_size=1),
            r"rows 0\.\.0, but metadata.parquet lists row 1",
        ),
        (lambda path: path.write_bytes(b"0123456789" * 30), "no parquet footer at its end"),
    ):
        change(tmp_path / "x")
        stocked.files[PART] = (tmp_path / "x").read_bytes()
        with pytest.raises(GeoladderError, match=message):
            get(stocked, tmp_path / "out")
        shutil.rmtree(tmp_path / "out")


def test_full_disk_while_a_part_is_written(stocked, archive, tmp_path):
    """The kernel refuses files above a limit that the fetched bytes fit into, but the part with its footer not."""
    get(stocked, tmp_path / "calm")
    size = (tmp_path / "calm" / PART).stat().st_size
    plan = prepare(stocked.url, TWO, tmp_path / "out", patience=QUICK)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limits[1]))
    try:
        with pytest.raises(GeoladderError, match=r"cannot be written: files may not be so large.*continues"):
            fetch(plan, tmp_path / "out", connections=1, patience=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out" / PART).exists()
    assert not list((tmp_path / "out").rglob("*.tmp*"))
    stocked.log.clear()
    get(stocked, tmp_path / "out")
    assert stocked.sent(PART) == 0 and same_tiles(tmp_path / "out", archive.folder) == 2


def test_a_damaged_part_here_is_told_from_one_there(stocked, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder, FIRST)
    data = bytearray((folder / PART).read_bytes())
    data[4:40] = bytes(36)
    (folder / PART).write_bytes(data)
    with pytest.raises(GeoladderError, match=r"part_00001.parquet here has row 0 damaged.*delete it"):
        get(stocked, folder)
    (folder / PART).unlink()
    get(stocked, folder)
    assert len(MajorTom(folder).metadata()) == 2


def test_a_job_killed_before_it_remembered_a_part_fetches_nothing_twice(
    stocked, archive, tmp_path, monkeypatch
):
    """Also where the part was extended: then the record is there, and knows fewer rows than the part."""
    folder = tmp_path / "out"
    for select in (FIRST, TWO):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("geoladder.data.fetch.plan.write_record", killed)
            get(stocked, folder, select)
        assert not (folder / "metadata.parquet").exists()
        stocked.log.clear()
        get(stocked, folder, select)
        assert stocked.sent(PART) == 0
    assert same_tiles(folder, archive.folder) == 2


def killed(*_):
    raise KeyboardInterrupt


def test_while_rows_move_nothing_says_where_they_are(stocked, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder, Select(since="2021-02-01", until="2021-02-28"))
    stocked.faults[PART].append({"status": 404})
    with pytest.raises(GeoladderError, match="does not exist"):
        get(stocked, folder)
    assert not (folder / "metadata.parquet").exists()


def test_another_content_of_the_file_of_cells_is_planned_again(stocked, archive, tmp_path):
    cells, folder = tmp_path / "cells.txt", tmp_path / "out"
    for content, tiles in (("0U_1R\n", 1), ("0U_1R\n4U_1R\n", 2)):
        cells.write_text(content)
        get(stocked, folder, Select(cells=cells))
        assert same_tiles(folder, archive.folder) == tiles


def test_records_of_an_older_edition_do_not_count(stocked, archive, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder)
    archive.add("1U_1R", tile_px=24).write()
    for path in archive.folder.rglob("*.parquet"):
        stocked.files[str(path.relative_to(archive.folder))] = path.read_bytes()
    prepare(stocked.url, TWO, folder, patience=QUICK, again=True)
    get(stocked, folder)
    record = read_record(folder, RemoteFile(PART, len(stocked.files[PART])))
    assert record.rows == (0, 1, 3) and record.remote_bytes == len(stocked.files[PART])


def test_the_verb_fetches_rows(stocked, archive, tmp_path, capsys):
    command = ["fetch", stocked.url, "--out", str(tmp_path / "out"), "--max-cloud", "10"]
    assert main([*command, "--plan"]) == 0
    assert (
        "parts  1, 2.0 wanted tiles in each on average; 0 of them are fetched whole"
        in capsys.readouterr().out
    )
    assert main(command) == 0
    assert same_tiles(tmp_path / "out", archive.folder) == 2
    assert main([*command, "--whole-parts"]) == 0
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_the_verb_takes_a_spec(stocked, archive, tmp_path):
    spec = json.dumps({"url": stocked.url, "select": {"max_cloud_percent": 10}})
    assert main(["fetch", "--spec", spec, "--out", str(tmp_path / "out")]) == 0
    assert same_tiles(tmp_path / "out", archive.folder) == 2


def test_metadata_keeps_its_columns_and_types(stocked, archive, tmp_path):
    get(stocked, tmp_path / "out", Select(since="2021-02-01", until="2021-02-28"))
    here = pq.read_table(tmp_path / "out/metadata.parquet")
    there = pq.read_table(archive.folder / "metadata.parquet")
    assert here.schema.types == there.schema.types and here.column_names == there.column_names
    pd.testing.assert_frame_equal(
        here.to_pandas().drop(columns="parquet_row").reset_index(drop=True),
        there.slice(1, 1).to_pandas().drop(columns="parquet_row").reset_index(drop=True),
    )


@pytest.mark.parametrize("lengths", [[1, 1], [3, 40, 7, 2, 1], [2, 1, 1, 30, 5, 1, 9, 4, 1, 1, 1, 6]])
@pytest.mark.parametrize("broken", range(3))
def test_ranges_lie_where_they_lay(site, tmp_path, lengths, broken):
    """Between them are holes; a break among them loses nothing."""
    whole = np.random.default_rng(0).bytes(1000 * sum(lengths))
    edges = np.cumsum([0, *lengths]) * 1000
    ranges = list(itertools.pairwise(edges.tolist()))[::2]
    site.files[PART] = whole
    site.faults[PART].extend([{}] * broken + [{"stop_after": 700}])
    received = []

    def finish(path):
        data = path.read_bytes()
        return [data[first:behind] for first, behind in ranges]

    server, remote = Server(site.url, QUICK, 1), RemoteFile(PART, len(whole))
    server.advance = received.append
    parts = fetch_ranges(server, remote, ranges, tmp_path / "x", finish)
    assert parts == [whole[first:behind] for first, behind in ranges]
    assert sum(received) == sum(map(len, parts)) and not list(tmp_path.iterdir())


def test_near_ranges_are_joined(archive, monkeypatch):
    archive.add("1U_1R").add("2U_1R").write()
    part = pq.read_metadata(archive.folder / PART)
    apart = row_ranges(part, [0, 1], COLUMNS)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(apart)) and len(apart) > 2
    monkeypatch.setattr(rows_module, "GAP_BYTES", 1 << 20)
    assert row_ranges(part, [0, 1], COLUMNS) == [(apart[0][0], apart[-1][1])]
