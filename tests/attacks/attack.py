"""Attacks and odd files against the real command line, each in a child under limits of time and memory.

A module of a kind holds a list of `Attack` and gives it to `attacked_by`:

    ATTACKS = [Attack("a folder as study", _write, ["cells", "--study", "study.yaml"], "study.yaml is a folder")]
    test_studies = attacked_by(ATTACKS)

Paths of a command are relative to the folder that `write` filled. What a command writes is to be called `out...`:
where it is refused, nothing of that name may be left. Input that would run code touches the file `executed` there.
"""

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from geoladder.cli import main

LIMIT_S = 30.0
LIMIT_BYTES = 2**30
"""Of memory beyond that of a process which has imported everything."""
EXECUTED = "executed"
HEAVY = (
    *("commands", "data.batches.chips", "data.batches.stats", "data.bench.split", "data.fetch.archive"),
    *("report.figures.scaling", "report.collect", "scaling.questions.compare"),
    *(
        "training.pretrain",
        "training.finetune",
        "training.linear",
        "training.baselines",
        "training.import_weights",
    ),
)


@dataclass(frozen=True)
class Attack:
    """An input, the command that reads it, and the answer that is right."""

    name: str
    write: Callable[[Path], object]
    """Makes the input in a folder."""
    command: Sequence[str]
    """Words after `geoladder`; `{folder}` and `{url}` stand for the folder and for the site that `serve` stocked."""
    message: str | None
    """A part of the one line that refuses, with the file and the fix; None where the command is to succeed."""
    status: int = 1
    """Of the refusal: 2 where the command itself is wrong."""
    stated: str = ""
    """Of a success: a part of what is printed or logged."""
    check: Callable[[Path], object] | None = None
    """Raises AssertionError where the folder is not as it should be afterwards."""
    serve: Callable | None = None
    """Stocks a `Site` (tests/http_site.py) before the command runs."""
    fresh: bool = False
    """Whether a new interpreter runs it; otherwise a fork of this one, as the workflow's warm worker makes."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables to set, or with None to remove."""
    limit_s: float = LIMIT_S


class Answer(NamedTuple):
    """What came of a command."""

    status: int
    """Negative: the signal it died of."""
    printed: str
    said: str
    """On stderr: the log, and last the line of a refusal."""
    seconds: float
    cpu_s: float
    peak_bytes: int
    """Of memory beyond what the process began with."""


def attacked_by(attacks: Sequence[Attack]) -> Callable:
    """A test for pytest that makes each of the attacks."""

    @pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)
    def test(attack, tmp_path, request, record_property):
        folder, words = tmp_path / "input", list(attack.command)
        folder.mkdir()
        attack.write(folder)
        if attack.serve:
            site = request.getfixturevalue("site")
            site.folder = tmp_path / "site"
            attack.serve(site)
            words = [word.replace("{url}", site.url) for word in words]
        words = [word.replace("{folder}", str(folder)) for word in words]
        answer = run(words, folder, tmp_path, attack.fresh, attack.environment, attack.limit_s)
        line = attack.stated if attack.message is None else _refusal(answer.said).replace(f"{folder}/", "")
        record_property("attack", [attack.name, answer.status, line, answer.cpu_s, answer.peak_bytes])
        judge(attack, answer, folder)

    return test


def judge(attack: Attack, answer: Answer, folder: Path) -> None:
    """Raise AssertionError where the answer is not the right one."""
    everything = f"{answer.printed}\n{answer.said}"
    assert "Traceback" not in everything, everything
    assert answer.status >= 0, f"died of {signal.Signals(-answer.status).name} after {answer.seconds:.1f} s"
    assert not list(folder.rglob(EXECUTED)), "code of the input was run"
    assert answer.peak_bytes < LIMIT_BYTES, f"{answer.peak_bytes / 1e6:.0f} MB"
    leftovers = [path.name for path in folder.rglob("*") if ".tmp" in path.name]
    assert not leftovers, leftovers
    if attack.message is None:
        assert answer.status == 0, everything
        assert attack.stated in everything, everything
    else:
        line = _refusal(answer.said)
        assert answer.status == attack.status, everything
        assert line.startswith("geoladder ") and attack.message in line, everything
        assert not list(folder.glob("out*")), "a refused command left its result"
    if attack.check:
        attack.check(folder)


def _refusal(text: str) -> str:
    """The last line, or all faults of a study, each in a line of its own below the first."""
    head, _, last = text.rstrip("\n").rpartition("\n")
    return last if not last.startswith("  ") else f"{_refusal(head)}{last[1:]}"


def run(
    words: Sequence[str],
    folder: Path,
    logs: Path,
    fresh: bool = False,
    environment: Mapping[str, str | None] = {},
    limit_s: float = LIMIT_S,
) -> Answer:
    """Run `geoladder WORDS` in a folder, in a child that is killed after `limit_s`; its output goes to `logs`."""
    _import_heavy()
    before = _status_bytes("VmRSS")
    # What is reserved, which allocators do by the GiB; what is used is judged afterwards.
    limit_bytes = 3 * LIMIT_BYTES + (0 if fresh else _status_bytes("VmData"))
    start_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(words, folder, logs, fresh, environment, limit_bytes)
    handle = os.pidfd_open(child)
    if not select.select([handle], [], [], limit_s)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(handle)
    _, status, used = os.wait4(child, 0)
    seconds, cpu_s = time.monotonic() - start_s, used.ru_utime + used.ru_stime
    printed, said = ((logs / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    peak_bytes = max(0, used.ru_maxrss * 1024 - before)
    return Answer(os.waitstatus_to_exitcode(status), printed, said, seconds, cpu_s, peak_bytes)


def _become(words, folder, logs, fresh, environment, limit_bytes) -> None:
    """Turn this fork into the command. Never returns."""
    status = 1
    try:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open("/dev/null" if name == "stdin" else logs / name, flags), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        os.chdir(folder)
        for key, value in environment.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "geoladder", *words])
        status = main(list(words))
    except BaseException:  # noqa: BLE001 - whatever comes is shown
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@cache
def _import_heavy() -> None:
    """Import once what commands need, so that forks need not; without compiling kernels."""
    for module in HEAVY:
        import_module(f"geoladder.{module}")


def _status_bytes(key: str) -> int:
    """A number of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
