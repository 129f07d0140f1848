"""The verbs `profile` and `plan`: what rungs and whole studies cost, printed for people and written for programs."""

import argparse
from pathlib import Path
from typing import Any

from geoladder.cost.cards import CARDS
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path, write_json

Options = argparse.Namespace
COLUMNS = ("rung", "total", "encoder", "decoder", "heads", "norms", "maps", "tokens", "counted", "off by",
           "fwd", "bwd", "scan", "counted", "off by", "act.", "paper")  # fmt: skip


def add_verbs(verbs: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the parsers of these verbs to the command line's."""
    parser = verbs.add_parser(
        "profile", help="count a rung's parameters, FLOPs and memory; measure its speed"
    )
    parser.add_argument("rung", nargs="*", help="architecture-size, such as unet-s or vit_upernet-P16-100M")
    parser.add_argument("--all", action="store_true", help="every rung, at 128 px")
    parser.add_argument("--px", type=int, default=128, help="side of the images (default 128)")
    parser.add_argument(
        "--measure", type=int, metavar="BATCH", help="also train a few steps of so many images"
    )
    parser.add_argument("--steps", type=int, default=5, help="steps to measure (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/profile"),
        help="folder of the JSON (default results/profile)",
    )
    parser.set_defaults(run=_profile)
    parser = verbs.add_parser("plan", help="what a study will cost: bytes, chips, FLOPs, GPU-hours, memory")
    parser.add_argument(
        "study", type=Path, nargs="?", default=Path("config.yaml"), help="default: config.yaml"
    )
    parser.add_argument("--card", choices=CARDS, default="a100-40", help="kind of GPU (default a100-40)")
    parser.add_argument("--gpus", type=int, default=32, help="how many work at once (default 32)")
    parser.add_argument(
        "--utilisation",
        type=float,
        default=0.35,
        help="share of a card's peak training reaches (default 0.35)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/plan"), help="folder (default results/plan)"
    )
    parser.set_defaults(run=_plan)


def _profile(options: Options) -> None:
    import torch

    from geoladder.cost.profile import Measurement, profile, rungs
    from geoladder.cost.published import PX
    from geoladder.models.ladder import named

    if bool(options.rung) == options.all:
        raise GeoladderError("name rungs, such as unet-s, or give --all; not both")
    if options.all and options.px != PX:
        raise GeoladderError(f"--all compares with the paper's models, at {PX} px; got --px {options.px}")
    torch.set_num_threads(options.threads)
    measurement = Measurement(options.measure, options.steps) if options.measure else None
    found = []
    for architecture, size in rungs() if options.all else map(named, options.rung):
        found.append(profile(architecture, size, options.px, measurement))
        write_json(options.out / f"{architecture}-{size}.json", found[-1])
    print(table(found))  # noqa: T201
    missed = [miss for each in found if each["published"] for miss in each["published"]["misses"]]
    if missed:
        raise GeoladderError("out of tolerance: " + "; ".join(missed))


def _plan(options: Options) -> None:
    from geoladder.cost.plan import Machine, plan_study
    from geoladder.cost.plan_text import describe
    from geoladder.study.load import load_study

    if options.gpus < 1 or not 0 < options.utilisation <= 1:
        raise GeoladderError(
            f"a plan needs at least one GPU and a utilisation in (0, 1]; got {options.gpus} and {options.utilisation}"
        )
    found = plan_study(load_study(options.study), Machine(options.card, options.gpus, options.utilisation))
    for name in ("archives", "cells", "arms"):
        with atomic_path(options.out / f"{name}.csv") as path:
            getattr(found, name).to_csv(path, index=False)
    write_json(options.out / "plan.json", found.totals)
    print(describe(found))  # noqa: T201


def table(profiles: list[dict[str, Any]]) -> str:
    """Profiles (see `geoladder.cost.profile.profile`) as aligned lines, and a legend."""
    rows = [COLUMNS, *map(_row, profiles)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    legend = (
        "Millions of parameters with pretraining heads; norms (of these, maps with a weight per pixel) and tokens\n"
        "are part of the others. GFLOP of one image; forward includes scans. act.: MB that one image keeps for the\n"
        "backward pass, float32. counted: on the authors' classes, without scans; off by: ours against it."
    )
    return "\n".join([*lines, "", legend, *map(_speed, profiles)]).rstrip()


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    known = found["published"] or {"label": "", "parameters": None, "gflops_fwd": None, "part": "total"}
    parts = found["parameters"]
    millions = [
        f"{parts[part] / 1e6:.3f}"
        for part in ("total", "encoder", "decoder", "heads", "norm", "norm_maps", "embeddings")
    ]
    gflops = found["gflops_fwd"] - found["gflops_scan_fwd"]
    return (
        f"{found['architecture']}-{found['size']}",
        *millions,
        *_against(parts[known["part"]] / 1e6, known["parameters"] and known["parameters"] / 1e6),
        *(f"{found[key]:.4g}" for key in ("gflops_fwd", "gflops_bwd", "gflops_scan_fwd")),
        *_against(gflops, known["gflops_fwd"]),
        f"{found['activation_bytes']['float32'] / 1e6:.4g}",
        known["label"],
    )


def _against(ours: float, theirs: float | None) -> tuple[str, str]:
    return (f"{theirs:.6g}", f"{ours / theirs - 1:+.2%}") if theirs else ("", "")


def _speed(found: dict[str, Any]) -> str:
    done = found["measured"]
    if done is None:
        return ""
    return (
        f"{found['architecture']}-{found['size']}: {done['samples_per_second']:.4g} samples/s at batch "
        f"{done['batch']} of {found['px']} px on {done['device']} ({done['threads']} threads, {done['precision']}), "
        f"peak memory {done['peak_memory_mb']:.0f} MB"
    )
