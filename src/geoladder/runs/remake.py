"""What makes a file again: the command of the workflow that has it as an output, or the verb that wrote it."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

OUTPUTS = (
    (r"(data/[^/]+/chips)/.+", r"\1/manifest.parquet"),
    (r"(data/[^/]+/labels)/.+", r"\1/labels.json"),
    (r"(data/bench/archive)/.+", r"\1/metadata/tiles_metadata.json"),
    (r"(data/[^/]+/archive)/.+", r"\1/metadata.parquet"),
    (r"(results/(?:[\w-]+/)?(?:finetune|gates)/.+/n\d+)(?:/.+|\.npz)", r"\1.json"),
    (r"(results/(?:[\w-]+/)?linear/.+/seed\d+/\w+)/.+", r"\1.json"),
    (r"(results/(?:[\w-]+/)?tables)/(?!cells|lr|synthetic_gates).+", r"\1/cells.csv"),
)
"""Files that are no output of a rule, as patterns, and the output that they are written with."""
UNASKED = (
    (r"(results(?:/[\w-]+)?)/(?:sweep/.+|figures/lr\..+|tables/lr\..+)", r"\1/figures/lr.pdf"),
    (r"results(?:/[\w-]+)?/(?:published/.+|figures/coverage_.+)", r"\g<0>"),
)
"""What the workflow makes only when it is asked for it, as patterns, and what to ask for."""


def remake(*paths: Path) -> str:
    """What to do for a file, or several of one project, to be made again, as words for a message."""
    if fetched := [path for path in paths if _is_fetched(path)]:
        parts = shlex.join(map(str, fetched))
        return f"fetch it again: rm {parts}, then the same `geoladder fetch`, or {_forced(fetched, 'fetch_group')}"
    if unfinished := [path for path in paths if "state" in path.parts]:
        return (
            f"delete {shlex.join(map(str, unfinished))} and run again, to do that part of the run once more"
        )
    if any(path.name == "ledger.json" for path in paths):
        return "delete it and run snakemake again, which writes it"
    if not any(re.match("(data|results)/", _name(path)) for path in paths):
        return "make it again with the command that wrote it"
    return f"make it again: {_forced(paths, *(output for path in paths for output in _outputs(path)))}"


def _project(path: Path) -> Path:
    """Folder of the project that a file is of: the nearest above it in which Snakemake ran, or else this one."""
    here = Path.cwd()
    return next((folder for folder in (here / path).parents if (folder / ".snakemake").is_dir()), here)


def _name(path: Path) -> str:
    """A file as rules name it: from its project's folder."""
    whole, project = Path.cwd() / path, _project(path)
    return (whole.relative_to(project) if whole.is_relative_to(project) else whole).as_posix()


def _outputs(path: Path) -> list[str]:
    """Outputs of rules without which a file is not made again."""
    name = _name(path)
    for pattern, output in OUTPUTS:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, output, name)
            break
    if not name.endswith("chips/manifest.parquet"):
        return [name]
    groups = Path(name).parent.with_name("chips-groups")
    return [*sorted(f"{groups}/{done.name}" for done in (_project(path) / groups).glob("*.done")), name]


def _forced(paths: Iterable[Path], *outputs: str) -> str:
    """The command that runs the rules of these outputs, and whatever reads them, in the project of these paths."""
    project = _project(next(iter(paths)))
    place = [] if project == Path.cwd() else ["--directory", str(project)]
    targets = [
        re.sub(pattern, target, output)
        for output in outputs
        for pattern, target in UNASKED
        if re.fullmatch(pattern, output)
    ]
    forced = ["--forcerun", *dict.fromkeys(outputs), *(["--", *dict.fromkeys(targets)] if targets else [])]
    words = [shlex.join(place), "--configfile <the study's>", shlex.join(forced)]
    return " ".join(["snakemake --cores all", *filter(None, words)])


def _is_fetched(path: Path) -> bool:
    return path.parent.name == "images" and (path.parents[1] / "source/plan.json").is_file()
