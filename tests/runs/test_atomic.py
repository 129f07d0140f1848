import json
import os
import subprocess
import sys

import pytest

from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.temporary import temporary


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    out = tmp_path / "deep" / "result.json"
    write_json(out, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(out) as path:
        path.write_text("half")
        raise RuntimeError
    assert json.loads(out.read_text()) == {"a": 1}
    assert {path.name for path in out.parent.iterdir()} == {"result.json", ".result.json.seal"}


def test_what_a_killed_process_was_writing_goes_with_the_next_write(tmp_path):
    out = tmp_path / "result.json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living, own = temporary(out), f".{os.getpid()}."
    dead = living.with_name(living.name.replace(own, f".{gone.pid}."))
    parent = living.with_name(living.name.replace(own, f".{os.getppid()}."))
    elsewhere = tmp_path / f".result.other-machine.{gone.pid}.tmp.json"
    for path in (dead, parent, elsewhere):
        path.write_text("half")
    write_json(out, {"a": 1})
    assert {path.name for path in tmp_path.iterdir()} == {
        *("result.json", ".result.json.seal", parent.name, elsewhere.name)
    }


def test_numbers_json_has_no_word_for_become_null(tmp_path):
    write_json(tmp_path / "x.json", {"r2": float("nan"), "ends": (1.5, [float("inf")]), "n": 3, "none": None})
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "r2": None,
        "ends": [1.5, [None]],
        "n": 3,
        "none": None,
    }
