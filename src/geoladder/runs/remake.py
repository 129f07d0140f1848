"""What makes a file again: the command of the workflow that has it as an output, or the verb that wrote it."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

FIGURE = "results/figures/scaling.pdf"
OUTPUTS = (
    (r"(.*\bdata/[^/]+/chips)/.+", r"\1/manifest.parquet"),
    (r"(.*\bdata/[^/]+/labels)/.+", r"\1/labels.json"),
    (r"(.*\bdata/bench/archive)/.+", r"\1/metadata/tiles_metadata.json"),
    (r"(.*\bdata/[^/]+/archive)/.+", r"\1/metadata.parquet"),
    (r"(.*\bdata/[^/]+)/evidence\.json", r"\1/index.parquet"),
    (r"(.*\bresults/(?:finetune|gates)/.+/n\d+)(?:/.+|\.npz)", r"\1.json"),
    (r"(.*\bresults/linear/.+/seed\d+/\w+)/.+", r"\1.json"),
    (r"(.*\bresults/tables)/(?!cells|lr|synthetic_gates).+", r"\1/cells.csv"),
)
"""Files that are no output of a rule, as patterns, and the output that they are written with."""


def remake(*paths: Path) -> str:
    """What to do for a file, or several, to be made again, as words for a message."""
    if fetched := [path for path in paths if _is_fetched(path)]:
        parts = shlex.join(map(str, fetched))
        return f"fetch it again: rm {parts}, then the same `geoladder fetch`, or {_forced(['fetch_group'])}"
    if unfinished := [path for path in paths if "state" in path.parts]:
        return (
            f"delete {shlex.join(map(str, unfinished))} and run again, to do that part of the run once more"
        )
    if any(path.name == "ledger.json" for path in paths):
        return "delete it and run snakemake again, which writes it"
    if not any(re.search(r"\b(data|results)/", path.as_posix()) for path in paths):
        return "make it again with the command that wrote it"
    return f"make it again: {_forced(output for path in paths for output in _outputs(path))}"


def _outputs(path: Path) -> list[str]:
    """Outputs of rules without which a file is not made again."""
    name = path.as_posix()
    for pattern, output in OUTPUTS:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, output, name)
            break
    groups = sorted(Path(name).parent.with_name("chips-groups").glob("*.done"))
    return [*map(str, groups if name.endswith("chips/manifest.parquet") else []), name]


def _forced(outputs: Iterable[str]) -> str:
    words = shlex.join(dict.fromkeys(outputs))
    return f"snakemake --cores all --configfile <the study's> --forcerun {words} -- {FIGURE}"


def _is_fetched(path: Path) -> bool:
    return path.parent.name == "images" and (path.parents[1] / "source/plan.json").is_file()
