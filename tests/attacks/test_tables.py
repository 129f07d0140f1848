"""Tables of runs as programs export them."""

import gzip
import hashlib
import io
import json
import zipfile
from functools import partial

import numpy as np
import pandas as pd
from attack import Attack, attacked_by

from geoladder.runs.atomic import atomic_path

SIZES, DATA = (grid.ravel() for grid in np.meshgrid([1e7, 4e7, 1.6e8, 6.4e8], [2e8, 1e9, 5e9, 2.5e10]))
LOSS = (1.8 + 480 * SIZES**-0.35 + 2000 * DATA**-0.37) * np.exp(np.random.default_rng(0).normal(0, 1e-3, 16))
RUNS = pd.DataFrame({"params": SIZES.astype(int), "tokens": DATA.astype(int), "loss": LOSS.round(5)})
CSV = RUNS.to_csv(index=False)
COLUMNS = ["--n", "params", "--d", "tokens", "--y", "loss", "--bootstrap", "0", "--out", "out.json"]
FIT = ["fit", "runs", *COLUMNS]
ALPHA = 0.349


def _write(folder, content):
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "runs").write_bytes(content)


def _fitted(folder):
    fit = json.loads((folder / "out.json").read_text())
    assert abs(fit["params"]["alpha"] - ALPHA) < 1e-3
    assert fit["provenance"]["sha256"] == hashlib.sha256((folder / "runs").read_bytes()).hexdigest()


def _edited(folder):
    """A table with a seal, as results.csv has, in which a number was changed."""
    with atomic_path(folder / "runs") as path:
        path.write_text(CSV)
    _write(folder, BAD_ROW.replace("-", "9"))


def _read(name, content, command=FIT):
    return Attack(name, partial(_write, content=content), command, None, stated="converged", check=_fitted)


def _refused(name, content, message, command=FIT):
    return Attack(name, partial(_write, content=content), command, message)


def _parquet(table):
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


def _zip(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _numpy(**options):
    stream = io.StringIO()
    np.savetxt(stream, RUNS, **options)
    return stream.getvalue()


SHORT = RUNS.assign(params=[f"{n / 1e6:g}M" for n in SIZES], tokens=[f"{d / 1e9:g} B" for d in DATA])
SCORE = RUNS.assign(loss=(1 - 0.3 * LOSS / LOSS.max()).round(5))
LINES = CSV.splitlines()
UPPER = CSV.replace("params,tokens,loss", "Params,Tokens,LOSS")
TWICE = CSV.replace("params,tokens,loss", "params,loss,loss")
BAD_ROW = CSV.replace("640000000,1000000000,", "640000000,1000000000,-")
EXCLUDE = [*FIT, "--exclude", "params < 2e7"]
DIFFERENCE = [word if word != "loss" else "1 - loss" for word in FIT]
ATTACKS = [
    _read("semicolons", RUNS.to_csv(index=False, sep=";")),
    _read("semicolons and decimal commas", RUNS.to_csv(index=False, sep=";", decimal=",")),
    _read("the separator named as by Excel", "sep=;\n" + RUNS.to_csv(index=False, sep=";")),
    _read("tabs", RUNS.to_csv(index=False, sep="\t")),
    _read("bars", RUNS.to_csv(index=False, sep="|")),
    _read("NumPy's blanks, header in a comment", _numpy(header="params tokens loss")),
    _read("comments", f"# exported 2025-01-01\n# run group: a, b\n{CSV}# end\n"),
    _read("blanks in the header", CSV.replace("params,tokens,loss", " params , tokens, loss ")),
    _read("commas at the end of rows", "\n".join(LINES[:1] + [f"{line}," for line in LINES[1:]])),
    _read("a byte-order mark and lines of Windows", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
    _read("gzip", gzip.compress(CSV.encode())),
    _read("zip", _zip(runs=CSV)),
    _read("JSON lines", RUNS.to_json(orient="records", lines=True)),
    _read("a JSON array", RUNS.to_json(orient="records", indent=1)),
    _read("parquet", _parquet(RUNS)),
    _read("parquet with an index", _parquet(RUNS.set_index("params"))),
    _read("sizes as 124M and 3 B", SHORT.to_csv(index=False)),
    Attack(
        "a score less than one",
        partial(_write, content=SCORE.to_csv(index=False)),
        DIFFERENCE,
        None,
        stated="converged; identified",
    ),
    _refused("a score", SCORE.to_csv(index=False), "if more of loss is better, fit --y '1 - loss'"),
    _refused("two columns of one name", TWICE, "2 columns named 'loss' (numbers 2 and 3)"),
    _refused("two keys of one name", '{"params": 1, "loss": 2, "loss": 3}\n', "2 columns named 'loss'"),
    _refused("other letters", UPPER, "no column params (did you mean 'Params'?)"),
    _refused("a bad row after others were left out", BAD_ROW, "row 8: loss is -", EXCLUDE),
    _refused(
        "more fields than names", CSV.replace(",1000000000,", ",1000000000,7,", 1), "row 5 has 4 fields"
    ),
    _refused("a file cut short", CSV[:-20], "row 16 has 2 fields and the header 3"),
    _refused("an open quote", CSV.replace("10000000,", '"10000000,', 1), "row 1 cannot be read"),
    _refused("no header", "\n".join(LINES[1:]), "its first line is numbers"),
    _refused("decimal commas and points", "params;loss\n1,5;1.5\n2,5;1.25\n", "row 1 has 1,5, row 1 has 1.5"),
    _refused(
        "thousands or decimals", "params;loss\n1,500;2,250\n", "decimal comma, or a thousand times that"
    ),
    _refused("a number beyond all", CSV.replace("10000000,", "1e308,", 1), "row 1: params is 1e+308"),
    _refused("infinity", CSV.replace("10000000,", "inf,", 1), "row 1: params is inf"),
    _refused("per cent", CSV.replace("10000000,", "5 %,", 1), "row 1: params is 5 %"),
    _refused("UTF-16", CSV.encode("utf-16"), "runs is UTF-16 text; save it as UTF-8"),
    _refused("Latin-1", "größe,loss\n".encode("latin-1"), "line 1 has the byte 0xf6"),
    _refused("bytes", bytes(range(256)), "runs is not UTF-8 text"),
    _refused("nothing", "", "runs is empty"),
    _refused(
        "a damaged gzip", gzip.compress(CSV.encode())[:-20], "runs is damaged, it cannot be decompressed"
    ),
    _refused("a bomb of gzip", gzip.compress(bytes(2**28)), "runs is a table of over"),
    _refused("a damaged parquet", b"PAR1" + CSV.encode() + b"PAR1", "runs is no readable parquet file"),
    _refused("a workbook", _zip(**{"[Content_Types].xml": "", "xl": ""}), "save its sheet as CSV"),
    _refused("JSON cut short", '{"params": 1}\n{"params": \n', "line 2 is no JSON"),
    _refused("JSON of numbers", "[{}, 1]", "row 2 is no JSON object"),
    Attack("a table edited under its seal", _edited, FIT, "runs cannot be read as it was written"),
    Attack("a folder", lambda folder: (folder / "runs").mkdir(), FIT, "runs is a folder"),
    Attack("no file", lambda _: None, FIT, "no table of runs at runs"),
    Attack(
        "a device without end", lambda _: None, ["fit", "/dev/zero", *COLUMNS], "/dev/zero is a table of over"
    ),
]
test_tables = attacked_by(ATTACKS)
