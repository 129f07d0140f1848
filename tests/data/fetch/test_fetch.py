"""Against a real HTTP server in a thread, which serves real-format parts and misbehaves on demand."""

import hashlib
import json
import resource
import subprocess
import sys
import time
from datetime import date
from email.utils import format_datetime
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoladder.cli import main
from geoladder.data.archives.majortom import MajorTom
from geoladder.data.fetch import file as fetch_file_module
from geoladder.data.fetch.archive import fetch, prepare
from geoladder.data.fetch.file import fetch_file
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.patience import (
    LONGEST_PAUSE_S,
    Patience,
    StoppedError,
    TransientError,
    retry_after_s,
)
from geoladder.data.fetch.plan import RemoteFile, describe, human, plan_fetch
from geoladder.data.index.select import selected
from geoladder.errors import GeoladderError
from geoladder.runs.verify import verify
from geoladder.study.address import HUB, resolve
from geoladder.study.corpora import Select

QUICK = Patience(attempts=4, base_s=0.001, ceiling_s=0.004, timeout_s=5.0)
ALL = Select()
PART = "images/part_00001.parquet"


def get(site, folder, selection=ALL, **options):
    plan = prepare(site.url, selection, folder, patience=QUICK, whole_parts=True)
    return fetch(plan, folder, patience=QUICK, **options)


def one_file(site, path, patience=QUICK, sha256=None):
    remote = RemoteFile(PART, len(site.files[PART]), sha256)
    return fetch_file(Server(site.url, patience, 1), remote, path, lambda _: None)


@pytest.fixture
def blob(site):
    """A site with one file of 300 kB of noise."""
    site.files[PART] = np.random.default_rng(0).bytes(300_000)
    return site


def test_the_whole_archive_arrives_and_opens(stocked, tmp_path):
    manifest = json.loads(get(stocked, tmp_path / "out").read_text())
    assert {name: (tmp_path / "out" / name).read_bytes() for name in manifest["files"]} == {
        name: data for name, data in stocked.files.items() if name != "metadata.parquet"
    }
    for name, entry in manifest["files"].items():
        data = stocked.files[name]
        digest = hashlib.sha256(data).hexdigest()
        expected = {
            "tiles": 3,
            "size_bytes": len(data),
            "sha256": digest,
            "remote_bytes": len(data),
            "rows": None,
        }
        assert entry == expected
    reader = MajorTom(tmp_path / "out")
    rows = reader.metadata()
    assert len(rows) == 12
    assert reader.read(rows["part"][7], rows["row"][7]).grid_cell == "7U_1R"
    assert not [path for path in tmp_path.rglob("*") if "fetching" in path.name or ".tmp" in path.name]


@pytest.mark.parametrize("selection", [ALL, Select(max_cloud_percent=20)])
def test_a_part_that_rots_later_is_named_and_comes_again(stocked, tmp_path, selection):
    """Its size is right, and its time stamps are."""
    plan = prepare(stocked.url, selection, tmp_path / "out", patience=QUICK)
    fetch(plan, tmp_path / "out", patience=QUICK)
    part = tmp_path / "out" / plan.parts[0].file.name
    whole = part.read_bytes()
    part.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    with pytest.raises(
        GeoladderError, match=rf"{part.name} was damaged .* rm {part}, then .* `geoladder fetch`"
    ):
        verify(tmp_path / "out")
    part.unlink()
    fetch(plan, tmp_path / "out", patience=QUICK)
    assert part.read_bytes() == whole
    assert "as they were written" in verify(tmp_path / "out")


def test_plan_equals_what_is_fetched(stocked, tmp_path):
    selection = Select(max_cloud_percent=20, since=date(2021, 2, 1))
    plan = prepare(stocked.url, selection, tmp_path / "out", patience=QUICK, whole_parts=True)
    assert not [entry for entry in stocked.log if entry[0] == "GET" and entry[1].startswith("images/")]
    assert (plan.tiles, len(plan.parts), plan.archive_tiles) == (2, 1, 12)
    fetch(plan, tmp_path / "out", patience=QUICK)
    fetched = sum(path.stat().st_size for path in (tmp_path / "out/images").glob("*.parquet"))
    assert fetched == plan.size_bytes == stocked.sent(PART)
    kept = pq.read_table(tmp_path / "out/metadata.parquet")
    assert len(kept) == plan.tiles and kept["grid_cell"].to_pylist() == ["1U_1R", "2U_1R"]
    assert kept.column_names == pq.read_table(tmp_path / "out/source/metadata.parquet").column_names


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Select(max_cloud_percent=20), [0, 1, 2]),
        (Select(max_nodata_share=0.25), [0, 1, 2, 3]),
        (Select(since=date(2021, 11, 15)), [10, 11]),
        (Select(until=date(2021, 2, 15)), [0, 1]),
        (Select(since=date(2021, 3, 1), until=date(2021, 3, 31)), [2]),
        (Select(boxes=[(-35, -105, 5, 15)]), [2, 3, 4, 5, 6]),
        (Select(boxes=[(-90, 135, 90, -135)]), [0, 1, 10, 11]),
    ],
)
def test_each_filter_by_hand(archive, stocked, selection, numbers):
    rows = MajorTom(archive.folder).metadata()
    assert list(np.flatnonzero(selected(rows, selection))) == numbers


@given(st.integers(0, 5), st.integers(1, 16), st.integers(1, 16), st.floats(0, 100), st.floats(0, 100))
def test_fractions_are_nested_and_looser_filters_only_add(seed, a, b, cloud_a, cloud_b):
    cells = [f"{n}U_{n}R" for n in range(64)] * 2
    rows = pd.DataFrame({"grid_cell": cells, "cloud_percent": np.linspace(0, 100, len(cells))})
    small, large = (
        Select(fraction=Fraction(of(a, b), 16), seed=seed, max_cloud_percent=of(cloud_a, cloud_b))
        for of in (min, max)
    )
    assert not (selected(rows, small) & ~selected(rows, large)).any()
    assert selected(rows, Select(fraction=Fraction(a, 16), seed=seed)).sum() == 2 * 4 * a


def test_a_missing_value_does_not_meet_a_limit():
    rows = pd.DataFrame({"cloud_percent": [np.nan, 1], "timestamp": pd.to_datetime([None, "2021-01-01"])})
    assert list(selected(rows, Select(max_cloud_percent=100))) == [False, True]
    assert list(selected(rows, Select(since=date(1900, 1, 1)))) == [False, True]
    assert list(selected(rows, ALL)) == [True, True]


@pytest.mark.parametrize(
    "faults",
    [
        [{"status": 503}, {"status": 500}, {"status": 429}],
        [{"stop_after": 100_000}, {"stop_after": 100_000}],
        [{"stop_after": 0}, {"status": 504}],
        [{"stop_after": 150_000}, {"status": 503}, {"stop_after": 60_000}],
    ],
)
def test_passing_failures_lose_and_repeat_no_byte(blob, tmp_path, faults):
    blob.faults[PART].extend(faults)
    digest = one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART]
    assert digest == hashlib.sha256(blob.files[PART]).hexdigest()
    assert blob.sent(PART) == len(blob.files[PART])
    assert len(blob.gets(PART)) == len(faults) + 1


def test_many_breaks_are_fine_while_each_try_brings_bytes(blob, tmp_path):
    blob.faults[PART].extend([{"stop_after": 20_000}] * (3 * QUICK.attempts))
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART] and blob.sent(PART) == 300_000


def test_retry_after_is_honoured(blob, tmp_path):
    blob.faults[PART].append({"status": 429, "headers": {"Retry-After": "1"}})
    one_file(blob, tmp_path / "x")
    first, second = (entry[4] for entry in blob.gets(PART))
    assert second - first >= 1.0 > 100 * QUICK.ceiling_s


def test_retry_after_as_date_and_as_nonsense():
    from datetime import UTC, datetime, timedelta

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_after_s(soon) <= 30
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == retry_after_s("soon") == retry_after_s(None) == 0
    endless = ("1000000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT")
    assert {retry_after_s(text) for text in endless} == {LONGEST_PAUSE_S}
    assert {retry_after_s(text) for text in ("\u00b2", "-5", "1e9", "Fri, 31 Dec 99999 23:59:59 GMT")} == {0}


def test_a_silent_server_counts_as_broken(blob, tmp_path):
    blob.faults[PART].append({"stop_after": 50_000, "silent_s": 1.5})
    begun = time.monotonic()
    one_file(blob, tmp_path / "x", Patience(4, 0.001, 0.004, timeout_s=0.2))
    assert time.monotonic() - begun < 1.2
    assert (tmp_path / "x").read_bytes() == blob.files[PART]
    assert blob.gets(PART)[0][2] == 50_000  # the second request ended first, and asked for the rest alone


def test_giving_up_says_so_and_keeps_what_came(blob, tmp_path):
    blob.faults[PART].extend([{"stop_after": 70_000}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError, match=r"part_00001.*given up after 4 failures.*503.*continues"):
        one_file(blob, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    blob.faults.clear()
    one_file(blob, tmp_path / "x")
    assert blob.sent(PART) == 300_000 and (tmp_path / "x").read_bytes() == blob.files[PART]


def test_pauses_grow_with_jitter_from_the_seed():
    patience = Patience(base_s=1, ceiling_s=20, seed=3)
    pauses = [patience.pause_s("a", failures, 0) for failures in range(1, 9)]
    assert all(0.5 * min(2**k, 20) <= pause <= min(2**k, 20) for k, pause in enumerate(pauses))
    assert pauses == [Patience(base_s=1, ceiling_s=20, seed=3).pause_s("a", k, 0) for k in range(1, 9)]
    assert pauses[0] != patience.pause_s("b", 1, 0) != Patience(seed=4).pause_s("b", 1, 0)
    assert patience.pause_s("a", 1, 300) == 300


def test_stop_ends_a_pause():
    server = Server("http://localhost", QUICK, 1)
    server.stop.set()

    def fails():
        raise TransientError("x", 60)

    with pytest.raises(StoppedError):
        server.persist(fails, "x")


def test_changed_file_is_begun_again(blob, tmp_path):
    blob.faults[PART].extend([{"stop_after": 100_000}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError):
        one_file(blob, tmp_path / "x")
    blob.faults.clear()
    blob.files[PART] = np.random.default_rng(1).bytes(300_000)
    blob.tags[PART] = '"two"'
    blob.log.clear()
    one_file(blob, tmp_path / "x")
    assert [entry[2:4] for entry in blob.gets(PART)] == [(0, 300_000)]  # one request: If-Range was sent
    assert (tmp_path / "x").read_bytes() == blob.files[PART]


def test_weak_tags_are_compared_though_not_sent(blob, tmp_path):
    blob.tags[PART] = 'W/"one"'
    blob.faults[PART].extend([{"stop_after": 100_000}, *[{"status": 503}] * 9])
    with pytest.raises(GeoladderError):
        one_file(blob, tmp_path / "x")
    blob.faults.clear()
    blob.files[PART] = np.random.default_rng(1).bytes(300_000)
    blob.tags[PART] = 'W/"two"'
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART]


@pytest.mark.parametrize("tag", ["", 'W/"one"'])
def test_resume_without_a_strong_tag(blob, tmp_path, tag):
    blob.tags[PART] = tag
    blob.faults[PART].append({"stop_after": 100_000})
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART] and blob.sent(PART) == 400_000


YESTERDAY, TODAY = "Thu, 01 Jan 2026 00:00:00 GMT", "Fri, 02 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize("tag", ["", 'W/"one"'])
@pytest.mark.parametrize("modified", ["", YESTERDAY])
def test_two_versions_of_one_size_are_never_mixed(blob, tmp_path, tag, modified):
    blob.tags[PART], blob.modified[PART] = tag, modified
    blob.faults[PART].extend([{"stop_after": 100_000}, *[{"status": 503}] * 4])
    with pytest.raises(GeoladderError, match="given up"):
        one_file(blob, tmp_path / "x")
    blob.files[PART] = blob.files[PART][::-1]
    blob.modified[PART] = modified and TODAY
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART]


def test_a_file_without_a_strong_tag_is_resumed_by_its_date(blob, tmp_path):
    blob.tags[PART], blob.modified[PART] = 'W/"one"', YESTERDAY
    blob.faults[PART].append({"stop_after": 100_000})
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART] and blob.sent(PART) == 300_000


def test_a_server_that_drips_is_given_up(blob, tmp_path):
    patience = Patience(attempts=2, base_s=0.001, timeout_s=0.2, least_bytes=1000)
    blob.faults[PART].extend([{"drip_s": 0.05}] * 9)
    with pytest.raises(GeoladderError, match=r"given up after 2 failures in a row \(only \d+ bytes came"):
        one_file(blob, tmp_path / "x", patience)


def test_one_wrong_size_is_asked_for_again_by_the_same_command(stocked, tmp_path):
    size = len(stocked.files[PART])
    stocked.heads[PART].append(str(size + 1))
    with pytest.raises(GeoladderError, match="the same command plans anew"):
        get(stocked, tmp_path / "out")
    get(stocked, tmp_path / "out")
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]


@pytest.mark.parametrize("size", ["-5", "0", "\u00b2", "many", "9" * 400, "10" * 20])
def test_what_is_no_size_is_asked_for_again_at_once(stocked, tmp_path, size):
    stocked.heads["metadata.parquet"].append(size)
    stocked.heads[PART].append(size)
    get(stocked, tmp_path / "out")
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]


def test_a_part_that_rotted_is_fetched_again_on_demand(stocked, tmp_path):
    get(stocked, tmp_path / "out")
    part = tmp_path / "out" / PART
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    get(stocked, tmp_path / "out")
    assert part.read_bytes() == data
    get(stocked, tmp_path / "out", verify=True)
    assert part.read_bytes() == stocked.files[PART]


def test_a_part_that_cannot_be_read_is_fetched_again_once(stocked, tmp_path):
    stocked.faults[PART].append({"corrupt": -1})
    get(stocked, tmp_path / "out")
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]
    stocked.files[PART] = stocked.files[PART][:-1] + b"?"
    with pytest.raises(GeoladderError, match="damaged on the server"):
        get(stocked, tmp_path / "other")


def test_a_part_with_fewer_rows_than_the_metadata_list_is_refused(stocked, archive, tmp_path):
    pq.write_table(pq.read_table(archive.folder / PART).slice(0, 2), archive.folder / PART, row_group_size=1)
    stocked.files[PART] = (archive.folder / PART).read_bytes()
    with pytest.raises(GeoladderError, match=r"it has 2 rows, but metadata.parquet lists row 2"):
        get(stocked, tmp_path / "out")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", "only http and https is followed"),
        ("ftp://example.org/x", "only http and https is followed"),
        ("/archive/metadata.parquet", "redirected more than 5 times"),
    ],
)
def test_a_redirection_that_may_not_be_followed_is_asked_for_once(stocked, tmp_path, location, message):
    answer = {"status": 302, "headers": {"Location": location}}
    stocked.faults["metadata.parquet"].extend([answer] * 99)
    with pytest.raises(GeoladderError, match=message):
        get(stocked, tmp_path / "out")
    assert len(stocked.gets("metadata.parquet")) <= 6


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(GeoladderError) as refusal:
        resolve("https://me:secret@example.org/a")
    assert "secret" not in str(refusal.value) and "example.org" in str(refusal.value)
    with pytest.raises(GeoladderError) as refusal:
        resolve("ftp://me:secret@example.org/a?token=secret")
    assert "secret" not in str(refusal.value)


def test_server_without_ranges_begins_again(blob, tmp_path):
    blob.faults[PART].extend([{"stop_after": 100_000}, {"no_ranges": True}])
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART] and blob.sent(PART) == 400_000


def test_a_server_without_ranges_that_breaks_every_time_is_given_up(blob, tmp_path):
    blob.faults[PART].extend([{"stop_after": 100_000, "no_ranges": True}] * 20)
    with pytest.raises(GeoladderError, match=r"given up after 4 failures in a row .*connection"):
        one_file(blob, tmp_path / "x")
    assert len(blob.gets(PART)) == 1 + QUICK.attempts  # the first one brought bytes


def test_redirects_carry_the_range(blob, tmp_path):
    """The hub answers every part with a redirect to a store on another host."""
    there = {"status": 302, "headers": {"Location": f"{blob.url}/store"}}
    blob.files["store"] = blob.files[PART]
    blob.faults[PART].extend([there, there])
    blob.faults["store"].append({"stop_after": 120_000})
    one_file(blob, tmp_path / "x")
    assert [entry[2:4] for entry in blob.gets("store")] == [(0, 120_000), (120_000, 180_000)]
    assert (tmp_path / "x").read_bytes() == blob.files[PART]


def test_planning_again_fetches_metadata_only_when_it_changed(stocked, archive, tmp_path):
    def plan_again():
        prepare(stocked.url, ALL, tmp_path / "out", patience=QUICK, again=True)
        return len(stocked.gets("metadata.parquet"))

    assert plan_again() == plan_again() == 1
    pd.DataFrame(archive.metadata[:3]).to_parquet(archive.folder / "metadata.parquet")
    stocked.files["metadata.parquet"] = (archive.folder / "metadata.parquet").read_bytes()
    assert plan_again() == 2
    assert len(MajorTom(tmp_path / "out/source").metadata()) == 3


@pytest.mark.parametrize("faults", [[{"extra": 5}], [{"stop_after": 1000}, {"extra": 5}]])
def test_wrong_length_is_refused(blob, tmp_path, faults):
    blob.faults[PART].extend(faults)
    with pytest.raises(GeoladderError, match=r"sends 300005 bytes where the plan says 300000.*--plan"):
        one_file(blob, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_wrong_checksum_is_fetched_again_and_in_the_end_refused(blob, tmp_path):
    digest = hashlib.sha256(blob.files[PART]).hexdigest()
    blob.faults[PART].append({"corrupt": -1})
    assert one_file(blob, tmp_path / "x", sha256=digest) == digest
    assert (tmp_path / "x").read_bytes() == blob.files[PART]
    with pytest.raises(GeoladderError, match=f"given up.*checksum {digest} instead of 0000"):
        one_file(blob, tmp_path / "y", sha256="0" * 64)
    assert not (tmp_path / "y").exists()


def test_refusals_are_not_repeated(blob, tmp_path):
    for status, message in (
        (404, "does not exist"),
        (403, "refuses access"),
        (418, "status 418; 200 or 206"),
    ):
        blob.faults[PART].append({"status": status})
        blob.log.clear()
        with pytest.raises(GeoladderError, match=message):
            one_file(blob, tmp_path / "x")
        assert len(blob.gets(PART)) == 1


def test_two_jobs_do_not_write_one_file(blob, tmp_path):
    import fcntl

    with (tmp_path / ".x.fetching").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(GeoladderError, match="another job is fetching it"):
            one_file(blob, tmp_path / "x")
    one_file(blob, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == blob.files[PART]


def test_killed_in_the_middle_of_a_part_continues_there(stocked, tmp_path, monkeypatch):
    """The kill comes between two blocks; what had been written is never asked for again."""
    folder = tmp_path / "out"
    plan = prepare(stocked.url, ALL, folder, patience=QUICK, whole_parts=True)
    blocks, write = [], fetch_file_module.write_all

    def killed(handle, block):
        if len(blocks) == 5:
            raise KeyboardInterrupt
        blocks.append(len(block))
        write(handle, block)

    monkeypatch.setattr(fetch_file_module, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(fetch_file_module, "write_all", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(plan, folder, connections=1, patience=QUICK)
    monkeypatch.undo()
    left = (folder / "images/.part_00001.parquet.fetching").read_bytes()
    assert len(left) == sum(blocks) and 0 < len(left) < len(stocked.files[PART])
    assert not (folder / "metadata.parquet").exists()
    stocked.log.clear()
    get(stocked, folder)
    assert [(entry[2], entry[3]) for entry in stocked.gets(PART)] == [
        (len(left), len(stocked.files[PART]) - len(left))
    ]
    for name, data in stocked.files.items():
        if name != "metadata.parquet":
            assert (folder / name).read_bytes() == data


def test_a_job_killed_outright_continues_where_it_was(stocked, tmp_path):
    folder = tmp_path / "out"
    prepare(stocked.url, ALL, folder, patience=QUICK, whole_parts=True)
    stocked.faults[PART].append({"stop_after": 50_000, "silent_s": 20})
    command = [
        sys.executable,
        "-m",
        "geoladder.cli",
        "fetch",
        stocked.url,
        "--out",
        str(folder),
        "--connections",
        "1",
    ]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    unfinished = folder / "images/.part_00001.parquet.fetching"
    deadline = time.monotonic() + 30
    while not (unfinished.exists() and unfinished.stat().st_size == 50_000):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    job.kill()
    job.wait()
    get(stocked, folder)
    assert stocked.gets(PART)[-1][2:4] == (50_000, len(stocked.files[PART]) - 50_000)
    assert (folder / PART).read_bytes() == stocked.files[PART]


def test_a_second_run_asks_the_server_for_nothing(stocked, tmp_path):
    get(stocked, tmp_path / "out")
    stocked.log.clear()
    get(stocked, tmp_path / "out")
    assert stocked.log == []


def test_lost_damaged_and_unrecorded_parts(stocked, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder)
    stocked.log.clear()
    (folder / "images/part_00001.parquet").unlink()
    (folder / "images/part_00002.parquet").write_bytes(b"short")
    (folder / "source/done/part_00003.parquet.json").unlink()
    get(stocked, folder)
    assert {entry[1] for entry in stocked.log} == {PART, "images/part_00002.parquet"}
    assert (folder / "images/part_00002.parquet").read_bytes() == stocked.files["images/part_00002.parquet"]
    assert (folder / "source/done/part_00003.parquet.json").exists()


def test_a_larger_selection_reuses_the_parts_of_a_smaller_one(stocked, tmp_path):
    get(stocked, tmp_path / "out", Select(max_cloud_percent=20))
    stocked.log.clear()
    get(stocked, tmp_path / "out")
    assert stocked.sent(PART) == 0 and len(MajorTom(tmp_path / "out").metadata()) == 12


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_never_more_connections_than_allowed(stocked, tmp_path, connections):
    stocked.hold_s = 0.05
    get(stocked, tmp_path / "out", connections=connections)
    assert stocked.busiest == connections


def test_no_connections_are_refused_before_anything_is_removed(stocked, tmp_path):
    folder = tmp_path / "out"
    get(stocked, folder, Select(max_cloud_percent=20))
    plan = prepare(stocked.url, ALL, folder, patience=QUICK, whole_parts=True)
    with pytest.raises(GeoladderError, match="connections 0 must be at least 1"):
        fetch(plan, folder, connections=0, patience=QUICK)
    assert (folder / "metadata.parquet").exists()


def test_groups_share_the_parts_and_a_last_call_completes(stocked, tmp_path):
    folder = tmp_path / "out"
    plan = prepare(stocked.url, ALL, folder, patience=QUICK, whole_parts=True)
    files = []
    for index in (1, 2, 3):
        manifest = fetch(plan, folder, group=(index, 3), patience=QUICK)
        assert manifest.name == f"manifest-{index}-of-3.json"
        files += json.loads(manifest.read_text())["files"]
        assert not (folder / "metadata.parquet").exists()
    assert sorted(files) == [part.file.name for part in plan.parts]
    stocked.log.clear()
    get(stocked, folder)
    assert stocked.log == [] and (folder / "metadata.parquet").exists()
    with pytest.raises(GeoladderError, match="group 4/3 does not exist"):
        fetch(plan, folder, group=(4, 3), patience=QUICK)


def test_one_lost_part_does_not_keep_the_others_from_coming(stocked, tmp_path):
    stocked.faults[PART].append({"status": 404})
    with pytest.raises(
        GeoladderError, match=r"1 of 4 parts .* the others were; .*part_00001.parquet does not exist"
    ):
        get(stocked, tmp_path / "out", connections=1)
    assert len(list((tmp_path / "out/source/done").glob("*.json"))) == 3
    assert not (tmp_path / "out/metadata.parquet").exists()


def test_metadata_that_lists_a_part_the_server_lacks(stocked, tmp_path):
    del stocked.files["images/part_00003.parquet"]
    with pytest.raises(
        GeoladderError, match=r"1 part\(s\) the server does not have, the first images/part_00003"
    ):
        prepare(stocked.url, ALL, tmp_path / "out", patience=QUICK, whole_parts=True)


def test_metadata_cannot_name_a_file_elsewhere():
    rows = pd.DataFrame({"grid_cell": ["1U_1R"], "part": [".."]})
    with pytest.raises(GeoladderError, match=r"names the part '\.\.' for 1U_1R"):
        plan_fetch("https://example.org", rows, ALL, lambda names: {})


def test_full_disk_ends_in_one_message_and_can_continue(stocked, tmp_path):
    """The kernel itself refuses: files of this process may not exceed 20 kB."""
    plan = prepare(stocked.url, ALL, tmp_path / "out", patience=QUICK, whole_parts=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(GeoladderError, match=r"cannot be written: files may not be so large.*continues"):
            fetch(plan, tmp_path / "out", connections=1, patience=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "out/images/.part_00001.parquet.fetching").stat().st_size == 20_000
    assert len(stocked.gets("images/part_00002.parquet")) == 0
    stocked.log.clear()
    get(stocked, tmp_path / "out")
    assert stocked.gets(PART)[0][2] == 20_000
    assert (tmp_path / "out" / PART).read_bytes() == stocked.files[PART]


def test_a_selection_larger_than_the_disk_is_not_begun(stocked, tmp_path, monkeypatch):
    plan = prepare(stocked.url, ALL, tmp_path / "out", patience=QUICK, whole_parts=True)
    usage = type("Usage", (), {"free": plan.size_bytes - 1})
    monkeypatch.setattr("geoladder.data.fetch.archive.shutil.disk_usage", lambda _: usage)
    with pytest.raises(GeoladderError, match=r"has room for .* still to fetch; make room"):
        fetch(plan, tmp_path / "out", patience=QUICK)
    assert stocked.sent(PART) == 0


def test_permission_denied_is_one_message(stocked, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "out"))

    # The tests may run as root, whom no mode keeps out.
    with (
        monkeypatch.context() as patch,
        pytest.raises(GeoladderError, match=r"out cannot be written: this user may not write there; choose"),
    ):
        patch.setattr("pathlib.Path.mkdir", refuse)
        prepare(stocked.url, ALL, tmp_path / "out", patience=QUICK, whole_parts=True)


def test_damaged_metadata_and_plan(stocked, tmp_path):
    get(stocked, tmp_path / "out")
    (tmp_path / "out/source/plan.json").write_text("{")
    with pytest.raises(GeoladderError, match=r"plan.json is damaged; delete it"):
        get(stocked, tmp_path / "out")
    stocked.files["metadata.parquet"] = b"no parquet"
    with pytest.raises(GeoladderError, match=r"metadata.parquet is damaged on the server"):
        prepare(stocked.url, ALL, tmp_path / "other", patience=QUICK)


def test_a_folder_belongs_to_one_archive(stocked, tmp_path):
    get(stocked, tmp_path / "out")
    with pytest.raises(GeoladderError, match=r"holds http://127.* not https://example.org/a; choose another"):
        prepare("https://example.org/a", ALL, tmp_path / "out")


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("https://example.org/a/", "https://example.org/a"),
        ("https://example.org/a/metadata.parquet", "https://example.org/a"),
        ("hf://datasets/o/n@" + "a" * 40, "https://huggingface.co/datasets/o/n/resolve/" + "a" * 40),
    ],
)
def test_addresses(url, answer):
    assert resolve(url) == answer


@pytest.mark.parametrize("url", ["hf://datasets/o/n", "hf://datasets/o/n@main", "hf://datasets/o/n@"])
def test_the_hub_needs_a_fixed_revision(url):
    with pytest.raises(GeoladderError, match=r"no fixed revision|is no archive to fetch"):
        resolve(url)


@pytest.mark.parametrize("url", ["ftp://x/y", "data", "https://", "hf://models/o/n@1", "https://x/y?z=1"])
def test_other_addresses_are_refused(url):
    with pytest.raises(GeoladderError, match="is no archive to fetch; write https://"):
        resolve(url)


def test_the_hub_lists_sizes_and_checksums_by_page(site, monkeypatch):
    digest = "ab" * 32
    pages = [([RemoteFile("images/a", 7)], "page 2"), ([RemoteFile("images/b", 9, digest)], "")]
    urls = []
    monkeypatch.setattr(Server, "_hub_page", lambda self, url: (urls.append(url), pages.pop(0))[1])
    server = Server(resolve("hf://datasets/o/n@" + "a" * 40), QUICK, 1)
    listed = server.list_files(["images/a", "images/b", "images/c"])
    assert listed == {"images/a": RemoteFile("images/a", 7), "images/b": RemoteFile("images/b", 9, digest)}
    assert urls == [f"{HUB}/api/datasets/o/n/tree/{'a' * 40}/images", "page 2"]


def test_the_hub_is_asked_for_the_next_page_and_again_after_a_failure(site, monkeypatch):
    monkeypatch.setattr("geoladder.data.fetch.http.hub_listing", lambda _: f"{site.url}/tree")
    for page, name in (("tree/images", "images/a"), ("tree/2", "images/b")):
        site.files[page] = json.dumps(
            [{"type": "directory", "path": "images/x"}, {"type": "file", "path": name, "size": 7}]
        ).encode()
        site.faults[page].extend([{"status": 429, "headers": {"Retry-After": "soon"}}, {"stop_after": 9}])
    site.links["tree/images"] = "tree/2"
    listed = Server(site.url, QUICK, 1).list_files(["images/a", "images/b"])
    assert listed == {name: RemoteFile(name, 7) for name in ("images/a", "images/b")}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--fraction", "0"], "--fraction: Input should be greater than 0 (got '0')"),
        (["--fraction", "3/2"], "--fraction: Input should be less than or equal to 1"),
        (["--fraction", "1/0"], "--fraction: a fraction is expected, such as 1/16 or 0.25 (got "),
        (["--max-cloud", "101"], "--max-cloud: Input should be less than or equal to 100"),
        (["--max-nodata", "-0.1"], "--max-nodata: Input should be greater than or equal to 0"),
        (["--since", "2020-01-02", "--until", "2020-01-01"], "is after until"),
        (["--since", "yesterday"], "--since: "),
        (["--box", "10", "0", "-10", "5"], "south below north"),
        (["--box", "0", "-190", "10", "5"], "--box: Input should be greater than or equal to -180"),
        (["--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
        (["--spec", "{}"], "give either an address"),
    ],
)
def test_impossible_selections(option, message, tmp_path, capsys):
    assert main(["fetch", "https://example.org/a", "--out", str(tmp_path), *option]) == 1
    assert message in capsys.readouterr().err


def test_an_empty_selection_says_what_to_loosen(stocked, tmp_path):
    with pytest.raises(GeoladderError, match="none of the 12 tiles; loosen"):
        prepare(stocked.url, Select(since=date(2030, 1, 1)), tmp_path / "out", patience=QUICK)


def test_the_verb_plans_fetches_and_groups(stocked, tmp_path, capsys):
    common = ["fetch", stocked.url, "--out", str(tmp_path / "out"), "--box", "-90", "-180", "0", "180"]
    assert main([*common, "--group", "1/2"]) == 1
    assert "no plan of this selection" in capsys.readouterr().err
    assert main([*common, "--plan"]) == 0
    out = capsys.readouterr().out
    assert "tiles  6 of 12 (50 %)" in out and "parts  2, 3.0 wanted tiles" in out
    assert stocked.sent(PART) == 0
    for group in ("1/2", "2/2"):
        assert main([*common, "--group", group]) == 0
    assert main(common) == 0
    assert len(MajorTom(tmp_path / "out").metadata()) == 6
    size = sum(len(stocked.files[f"images/part_{n:05d}.parquet"]) for n in (1, 2))
    assert (
        f"bytes  {size} " in out
        and json.loads((tmp_path / "out/manifest.json").read_text())["size_bytes"] == size
    )


@pytest.mark.parametrize("bad", [["--group", "0/4"], ["--group", "x"]])
def test_the_verb_refuses_nonsense(bad, tmp_path, capsys):
    assert main(["fetch", "https://example.org", "--out", str(tmp_path), *bad]) == 1
    assert "write 1/8 to 8/8" in capsys.readouterr().err


def test_sizes_in_words():
    assert [human(size) for size in (5, 4_300_000_000, 23e12)] == ["5 B", "4.3 GB", "23 TB"]
    assert human(999) == "999 B"
    rows = pd.DataFrame({"grid_cell": ["1U_1R"] * 500, "part": ["a.parquet"] * 500, "row": range(500)})
    plan = plan_fetch("s", rows, ALL, lambda names: {name: RemoteFile(name, 4_300_000_000) for name in names})
    assert "4300000000 (4.3 GB)" in describe(plan) and "500 of 500 (100 %)" in describe(plan)
    assert "chips  up to 32000 of 128 px" in describe(plan)
