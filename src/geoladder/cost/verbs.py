"""The verbs `profile` and `plan`: what rungs and whole studies cost. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from geoladder.cost.rung_cost import ASSUMED_UTILISATION, PEAK_TFLOPS
from geoladder.errors import GeoladderError
from geoladder.options import Study, Threads
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.suggest import nearest

MEASURED = Path("results/reference/gpu")
COLUMNS = ("rung", "total", "encoder", "decoder", "heads", "norms", "maps", "tokens", "counted", "off by",
           "fwd", "bwd", "scan", "counted", "off by", "act.", "paper")  # fmt: skip
LEGEND = """\
Millions of parameters with pretraining heads; norms (of these, maps with a weight per pixel) and tokens
are part of the others. GFLOP of one image; forward includes scans. act.: MB that one image keeps for the
backward pass, float32. counted: on the authors' classes, without scans; off by: ours against it."""


def profile(
    *rungs: Annotated[str, Parameter(help="architecture-size, such as unet-s or vit_upernet-P16-100M")],
    whole_ladder: Annotated[bool, Parameter(name="--all", help="every rung, at 128 px")] = False,
    px: Annotated[int, Parameter(help="side of the images")] = 128,
    measure: Annotated[int | None, Parameter(help="also train a few steps of so many images")] = None,
    steps: Annotated[int, Parameter(help="steps to measure")] = 5,
    threads: Threads = 1,
    out: Annotated[Path, Parameter(help="folder of the JSON")] = Path("results/profile"),
) -> None:
    """Count a rung's parameters, FLOPs and memory; measure its speed."""
    import torch

    from geoladder.cost.profile import profile
    from geoladder.cost.profile import rungs as ladder
    from geoladder.cost.published import PX
    from geoladder.registry.ladder import named

    if bool(rungs) == whole_ladder:
        raise GeoladderError("name rungs, such as unet-s, or give --all; not both")
    if whole_ladder and px != PX:
        raise GeoladderError(f"--all compares with the paper's models, at {PX} px; got --px {px}")
    torch.set_num_threads(threads)
    profiles = []
    for architecture, size in ladder() if whole_ladder else map(named, rungs):
        profiles.append(profile(architecture, size, px, measure, steps))
        write_json(out / f"{architecture}-{size}.json", profiles[-1])
    print(table(profiles))  # noqa: T201
    misses = [miss for rung in profiles if rung["published"] for miss in rung["published"]["misses"]]
    if misses:
        raise GeoladderError("out of tolerance: " + "; ".join(misses))


def plan(
    study: Study = Path("config.yaml"),
    /,
    *,
    card: Annotated[str, Parameter(help=f"kind of GPU: {', '.join(PEAK_TFLOPS)}")] = "a100-40",
    gpus: Annotated[int, Parameter(help="how many work at once")] = 32,
    utilisation: Annotated[
        float | None,
        Parameter(help="share of a card's peak that training reaches (default: as measured, else 0.35)"),
    ] = None,
    measured: Annotated[Path, Parameter(help="folder of the GPU check's tables")] = MEASURED,
    out: Annotated[Path, Parameter(help="folder of the tables")] = Path("results/plan"),
) -> None:
    """Say what a study will cost: bytes, chips, FLOPs, GPU-hours, memory."""
    from geoladder.cost.measured import measured_rungs
    from geoladder.cost.plan import Machine, describe, plan_study
    from geoladder.study.load import load_study

    if card not in PEAK_TFLOPS:
        raise GeoladderError(f"--card: no card '{card}'{nearest(card, PEAK_TFLOPS)}")
    assumed = ASSUMED_UTILISATION if utilisation is None else utilisation
    if gpus < 1 or not 0 < assumed <= 1:
        raise GeoladderError(
            f"a plan needs at least one GPU and a utilisation in (0, 1]; got {gpus} and {assumed}"
        )
    rungs = measured_rungs(card, measured) if utilisation is None else {}
    costs = plan_study(load_study(study), Machine(card, gpus, assumed, rungs))
    for name in ("archives", "cells", "arms", "linear"):
        with atomic_path(out / f"{name}.csv") as path:
            getattr(costs, name).to_csv(path, index=False)
    write_json(out / "plan.json", costs.totals)
    print(describe(costs))  # noqa: T201


def table(profiles: list[dict[str, Any]]) -> str:
    """Profiles (see `geoladder.cost.profile.profile`) as a table for a terminal, a legend, and measured speeds."""
    import pandas as pd

    rows = pd.DataFrame(map(_row, profiles), columns=COLUMNS).to_string(index=False)
    speeds = [_speed(rung) for rung in profiles if rung["measured"]]
    return "\n".join([rows, "", LEGEND, *speeds])


def _row(rung: dict[str, Any]) -> list[str]:
    paper = rung["published"] or {"label": "", "parameters": None, "gflops_fwd": None, "part": "total"}
    parameters = rung["parameters"][paper["part"]]
    return [
        f"{rung['architecture']}-{rung['size']}",
        *(f"{count / 1e6:.3f}" for count in rung["parameters"].values()),
        *_against(parameters / 1e6, paper["parameters"] and paper["parameters"] / 1e6),
        *(f"{rung[key]:.4g}" for key in ("gflops_fwd", "gflops_bwd", "gflops_scan_fwd")),
        *_against(rung["gflops_fwd"] - rung["gflops_scan_fwd"], paper["gflops_fwd"]),
        f"{rung['activation_bytes']['float32'] / 1e6:.4g}",
        paper["label"],
    ]


def _against(ours: float, theirs: float | None) -> tuple[str, str]:
    return (f"{theirs:.6g}", f"{ours / theirs - 1:+.2%}") if theirs else ("", "")


def _speed(rung: dict[str, Any]) -> str:
    speed = rung["measured"]
    return (
        f"{rung['architecture']}-{rung['size']}: {speed['samples_per_second']:.4g} samples/s at batch "
        f"{speed['batch']} of {rung['px']} px on {speed['device']} ({speed['threads']} threads, "
        f"{speed['precision']}), peak memory {speed['peak_memory_mb']:.0f} MB"
    )
