"""The verbs of the command line, and how one is parsed, logged and answered.

A verb is a typed function in `verbs.py` of its room: its signature gives the options and its docstring their help.
Such a module imports nothing heavy at its top, so that `--help` answers at once.
"""

import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from geoladder import __version__
from geoladder.cost import verbs as cost
from geoladder.data import verbs as data
from geoladder.data.fetch import verb as fetch
from geoladder.errors import GeoladderError
from geoladder.report import verbs as report
from geoladder.runs.worker import serve
from geoladder.scaling import verbs as scaling
from geoladder.scaling.claims import verbs as claims
from geoladder.scaling.compute import verbs as compute
from geoladder.scaling.questions import verbs as questions
from geoladder.scaling.study_law import verbs as study_law
from geoladder.synth import verbs as synth
from geoladder.training import verbs as training

AGAIN = "and run again: finished parts are kept"
ADVICE = {
    errno.ENOSPC: f"make room on that disk {AGAIN}",
    errno.EDQUOT: f"make room in your quota {AGAIN}",
    errno.EROFS: f"choose a folder on a disk that can be written to, or mount it so, {AGAIN}",
    errno.EACCES: f"give yourself the right to it (chmod u+rwX) {AGAIN}",
    errno.EPERM: f"give yourself the right to it (chmod u+rwX) {AGAIN}",
    errno.EMFILE: f"allow more open files (ulimit -n 4096) {AGAIN}",
    errno.ENOENT: "give the path of a file that is there",
}
"""By what the operating system says."""

app = App(
    name="geoladder",
    help="Scaling studies for geospatial foundation models.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative="", show_env_var=False),
    result_action="return_value",
)

VERBS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Studies and results": (
        report.cells,
        cost.plan,
        report.status,
        report.verify,
        report.summary,
        report.inspect,
        fetch.fetch,
        data.bench_from_image,
    ),
    "Models": (
        *(cost.profile, training.export, training.load, training.import_weights),
        *(training.predict_map, training.embed),
    ),
    "Scaling laws of any runs": (
        *(scaling.fit, scaling.predict, scaling.compare),
        *(compute.frontier, compute.isoflop, questions.next_),
        *(study_law.joint, claims.claims),
    ),
    "Nodes of the graph": (
        *(synth.make_archive, synth.make_bench, synth.make_labels),
        *(data.bench_index, data.split, data.index, data.chips, data.stats),
        *(training.pretrain, training.import_released, training.choose_rate, training.finetune),
        *(training.linear, training.trivial),
        *(report.collect, report.laws, report.tables, report.gates),
        *(report.figure_scaling, report.figure_gates, report.figure_coverage),
        *(report.figure_linear, report.figure_lr, report.figure_patches),
        *(report.figure_error_law, report.figure_published, report.tables_published),
    ),
}
for place, (title, verbs) in enumerate(VERBS.items()):
    group = Group(title, sort_key=place)
    for verb in verbs:
        app.command(verb, group=group)


@app.command(show=False)
def serve_jobs(socket: str, /) -> None:
    """Fork a child for every job of a workflow that calls at the socket, so that none imports torch again."""
    serve(socket, _import_heavy_modules, run)


@app.meta.default
def _launch(
    *command: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], log: Path | None = None
) -> int:
    """Scaling studies for geospatial foundation models.

    Args:
        command: the verb and its options.
        log: also write the log to this file; stands before the verb.
    """
    verb, bound, injected = app.parse_args(command, exit_on_error=False, print_error=False)
    if "progress" in injected:
        bound.arguments["progress"] = log is None  # jobs of a workflow share one terminal
    _start_log(log)
    try:
        verb(*bound.args, **bound.kwargs)
    except BrokenPipeError:  # who reads what is printed, `head` for one, has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123  (stays open: Python flushes it at its end)
        return 1
    except (GeoladderError, OSError) as problem:
        words = _advice(problem) if isinstance(problem, OSError) else str(problem)
        logging.getLogger(__name__).debug("stopped", exc_info=True)
        print(f"geoladder {command[0]}: {words}", file=sys.stderr)  # noqa: T201
        if log:
            logging.getLogger(__name__).info("error: %s", words)
        return 1
    return 0


def _advice(problem: OSError) -> str:
    """What the system refused, of which file, and what to do about it."""
    where = f"{problem.filename}: " if problem.filename else ""
    advice = ADVICE.get(problem.errno or 0, "look after the file or the disk, and run again")
    return f"{where}{problem.strerror or problem}; {advice}"


def run(arguments: list[str]) -> int:
    """Run the verb that `arguments` begin with, in this process; return the exit status (see `cli.main`)."""
    try:
        return app.meta(arguments, exit_on_error=False, print_error=False) or 0
    except CycloptsError as problem:
        chain = " ".join(problem.command_chain or ())
        print(f"geoladder {chain}: {problem}".replace(" :", ":"), file=sys.stderr)  # noqa: T201
        return 2


def _import_heavy_modules() -> None:
    """Everything the verbs import, compiled kernels and what is known of the source, paid for once."""
    import torch

    torch.set_num_threads(1)
    import geoladder.data.batches.chips
    import geoladder.data.bench.split
    import geoladder.models.scan
    import geoladder.report.figures.scaling
    import geoladder.runs.provenance
    import geoladder.training.baselines
    import geoladder.training.choose_rate
    import geoladder.training.finetune
    import geoladder.training.linear
    import geoladder.training.pixel_models
    import geoladder.training.pretrain

    geoladder.models.scan.warm_up()
    geoladder.runs.provenance.warm_up()


def _start_log(file: Path | None) -> None:
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING if file else logging.INFO)
    handlers: list[logging.Handler] = [terminal]
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file))
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", handlers=handlers, force=True)
    logging.getLogger("geoladder").setLevel(logging.INFO)
