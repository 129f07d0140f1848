"""Servers that lie, and addresses that should not be fetched from."""

from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from attack import Attack, attacked_by

from tiny_archives import Archive, stock

METADATA, PART = "metadata.parquet", "images/part_00001.parquet"
FETCH = ["fetch", "{url}", "--out", "archive", "--whole-parts"]
ROWS = ["fetch", "{url}", "--out", "archive", "--max-cloud", "1"]


def _nothing(_):
    """The command needs no input but the server."""


def _stock(site, **changes):
    """A site with a small archive, of which `changes` replace files."""
    stock(site, Archive(site.folder))
    for name, change in changes.items():
        path = {"metadata": METADATA, "part": PART}[name]
        site.files[path] = change(site.files[path])


def _table(change):
    """Changes the table in the bytes of a parquet."""

    def changed(data):
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(pa.BufferReader(data))), sink, row_group_size=1)
        return sink.getvalue().to_pybytes()

    return changed


def _named(part):
    """Metadata whose rows lie in another part."""
    return _table(
        lambda table: table.set_column(
            table.column_names.index("parquet_url"), "parquet_url", pa.array([part] * len(table))
        )
    )


def _answering(status, path=METADATA, **headers):
    """A site whose file is answered with another status, however often it is asked for."""

    def serve(site):
        _stock(site)
        site.faults[path].extend([{"status": status, "headers": headers}] * 99)

    return serve


def _sized(*sizes, path=METADATA):
    """A site that first gives these sizes of a file."""

    def serve(site):
        _stock(site)
        site.heads[path].extend(sizes)

    return serve


def _complete(folder):
    assert len(pq.read_table(folder / "archive" / METADATA)) == 12
    assert not list(folder.rglob("*fetching*"))


def _refused(name, address, message):
    return Attack(f"an address {name}", _nothing, ["fetch", address, "--out", "out"], message)


def _plan(folder):
    (folder / "archive/source").mkdir(parents=True)
    (folder / "archive/source/plan.json").write_text("[" * 100_000)


ATTACKS = [
    _refused(
        "with a password", "https://me:secret@example.org/a", "'https://example.org/a' was given with a user"
    ),
    _refused(
        "with a token", "https://example.org/a?token=secret", "'https://example.org/a?...' is no archive"
    ),
    _refused(
        "of another scheme with a password", "ftp://me:secret@example.org/a", "'ftp://example.org/a' is no"
    ),
    _refused("of a file", "file:///etc", "'file:///etc' is no archive to fetch"),
    _refused("that is half a number", "http://[::1/a", "'http://[::1/a' is no archive to fetch"),
    _refused("of a branch", "hf://datasets/a/b@main", "names no fixed revision"),
    Attack(
        "a redirection to a file",
        _nothing,
        FETCH,
        "is redirected to file:///etc/passwd; from http only http and https is followed",
        serve=_answering(302, Location="file:///etc/passwd"),
    ),
    Attack(
        "a redirection in circles",
        _nothing,
        FETCH,
        "is redirected more than 5 times; check the address",
        serve=_answering(301, Location=f"/archive/{METADATA}"),
    ),
    Attack(
        "a redirection with a token",
        _nothing,
        FETCH,
        "is redirected to ftp://example.org/x?...;",
        serve=_answering(302, Location="ftp://me:secret@example.org/x?token=secret"),
    ),
    Attack("an archive for members", _nothing, FETCH, "refuses access", serve=_answering(403)),
    Attack("a teapot", _nothing, FETCH, "the server answers status 418", serve=_answering(418)),
    Attack("an empty server", _nothing, FETCH, "has no metadata.parquet", serve=lambda _: None),
    Attack(
        "metadata that are no parquet",
        _nothing,
        FETCH,
        "metadata.parquet is damaged on the server",
        serve=partial(_stock, metadata=lambda _: b"<html>Sign in</html>"),
    ),
    Attack(
        "metadata that name a file outside",
        _nothing,
        FETCH,
        "the server does not have, the first images/passwd.parquet",
        serve=partial(_stock, metadata=_named("https://example.org/../../../etc/passwd.parquet")),
    ),
    Attack(
        "metadata that name a hidden file",
        _nothing,
        FETCH,
        "names the part '.bashrc'",
        serve=partial(_stock, metadata=_named("x/.bashrc")),
    ),
    Attack(
        "a part of fewer rows than listed",
        _nothing,
        FETCH,
        "it has 2 rows, but metadata.parquet lists row 2",
        serve=partial(_stock, part=_table(lambda table: table.slice(0, 2))),
    ),
    Attack(
        "a part without bands",
        _nothing,
        ROWS,
        "lacks the column(s) B02",
        serve=partial(_stock, part=_table(lambda table: table.drop_columns(["B02"]))),
    ),
    Attack(
        "a part whose footer claims four gigabytes",
        _nothing,
        ROWS,
        "no parquet footer at its end",
        serve=partial(_stock, part=lambda data: data[:-8] + b"\xff\xff\xff\xff" + data[-4:]),
    ),
    Attack(
        "a part whose footer is noise",
        _nothing,
        ROWS,
        "add --whole-parts",
        serve=partial(_stock, part=lambda data: data[:-400] + bytes(392) + data[-8:]),
    ),
    Attack("a size below zero", _nothing, FETCH, None, check=_complete, serve=_sized("-1")),
    Attack("a size of 400 digits", _nothing, FETCH, None, check=_complete, serve=_sized("9" * 400)),
    Attack("a size that is no number", _nothing, FETCH, None, check=_complete, serve=_sized("many")),
    Attack(
        "a part too large for any disk",
        _nothing,
        FETCH,
        "make room, choose another --out",
        serve=_sized("9" * 13, path=PART),
    ),
    Attack("a plan of brackets", _plan, FETCH, "plan.json is damaged; delete it", serve=_stock),
    Attack(
        "a list of cells that names none",
        lambda folder: (folder / "cells.txt").write_text("../../etc\n"),
        [*FETCH, "--cells", "cells.txt"],
        "cells.txt line 1",
        serve=_stock,
    ),
    Attack(
        "no connections",
        _nothing,
        [*FETCH, "--connections", "0"],
        "connections 0 must be at least 1",
        serve=_stock,
    ),
    Attack(
        "a folder that is a file",
        lambda folder: (folder / "archive").touch(),
        FETCH,
        "plan.json cannot be read ([Errno 20] Not a directory",
        serve=_stock,
    ),
]
test_fetch = attacked_by(ATTACKS)
