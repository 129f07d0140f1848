"""Files of a study that were damaged, edited, or come from another study, and their seals."""

import json
import os

from attack import Attack, attacked_by

from geoladder.runs.atomic import write_json
from geoladder.runs.digest import seal_path

RESULT = "results/pretrain/majortom/unet-xs/seed0/metrics.json"
VERIFY = ["verify", "results"]
INSPECT = ["inspect", RESULT]


def _finished(folder, spoil=lambda path: None):
    """A project with one result, after `spoil` had it."""
    (folder / ".snakemake").mkdir()
    write_json(folder / RESULT, {"fingerprint": "0123456789ab", "metrics": {"val_masked_mse": 0.3}})
    spoil(folder / RESULT)


def _spoilt(spoil):
    return lambda folder: _finished(folder, spoil)


def _edit(path):
    path.write_text(path.read_text().replace("0.3", "0.2"))


def _seal_text(text):
    return lambda path: seal_path(path).write_bytes(text)


def _swap_seal(path):
    write_json(path.with_name("other.json"), {"fingerprint": "ba9876543210"})
    seal_path(path.with_name("other.json")).replace(seal_path(path))


def _instead_of_seal(make):
    def spoil(path):
        seal_path(path).unlink()
        make(seal_path(path))

    return spoil


def _moved(folder):
    _finished(folder)
    (folder / "results").rename(folder / "elsewhere")
    (folder / "results").mkdir()
    (folder / "elsewhere/pretrain").rename(folder / "results/pretrain")


def _copied_without_hidden_files(path):
    seal_path(path).unlink()


DAMAGED = "metrics.json.seal is damaged"
COMMAND = f"snakemake --cores all --configfile <the study's> --forcerun {RESULT}"
ATTACKS = [
    Attack("an edited metric, verified", _spoilt(_edit), VERIFY, COMMAND),
    Attack("an edited metric, shown", _spoilt(_edit), INSPECT, "for it was damaged or edited: its bytes"),
    Attack(
        "a result cut short",
        _spoilt(lambda path: os.truncate(path, 20)),
        INSPECT,
        "it has 20 bytes instead of",
    ),
    Attack(
        "an empty result", _spoilt(lambda path: os.truncate(path, 0)), VERIFY, "it has 0 bytes instead of"
    ),
    *(
        Attack(f"a seal of {name}", _spoilt(_seal_text(text)), INSPECT, DAMAGED)
        for name, text in (
            ("binary garbage", b"\xff\xfe\0\0"),
            ("a number", b"1"),
            ("a list", b"[]"),
            ("other keys", json.dumps({"file": {"size": 1}, "seal": ""}).encode()),
            ("deep nesting", b"[" * 4000),
            ("many blanks", b" " * 10**7),
        )
    ),
    Attack("the seal of another file", _spoilt(_swap_seal), VERIFY, "bytes instead of"),
    Attack(
        "a seal that a crash left empty",
        _spoilt(_seal_text(b"")),
        INSPECT,
        None,
        stated="val_masked_mse: 0.3",
    ),
    *(
        Attack(
            f"{name} instead of a seal",
            _spoilt(_instead_of_seal(make)),
            INSPECT,
            None,
            stated="val_masked_mse",
        )
        for name, make in (
            ("a named pipe", os.mkfifo),
            ("a folder", os.mkdir),
            ("a link to a device without end", lambda path: path.symlink_to("/dev/zero")),
            ("a link to itself", lambda path: path.symlink_to(path)),
        )
    ),
    Attack("results that were moved", _moved, VERIFY, None, stated="1 files"),
    Attack(
        "results copied without hidden files",
        _spoilt(_copied_without_hidden_files),
        VERIFY,
        "nothing of results has a seal",
    ),
    Attack(
        "results copied without hidden files, shown", _spoilt(_copied_without_hidden_files), INSPECT, None
    ),
    Attack("nothing to verify", lambda _: None, ["verify", "nowhere"], "nowhere does not exist"),
]
test_artefacts = attacked_by(ATTACKS)
