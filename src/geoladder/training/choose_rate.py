"""The rate of one arm at one task and n, chosen on validation patches alone, for all seeds of its curve.

Every arm gets the same effort: one run of the curve's first seed at each multiple of its own rate, each to its end as
the curve's runs are. Where the best is at an end of the grid, the grid is widened there by its own ratio, at most so
often; a choice that is still at an end says so.
"""

import json
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.runs.digest import intact
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.downstream_specs import RateSpec
from geoladder.training.finetune import (
    ALONE,
    BenchFiles,
    Labelled,
    alone_in_state,
    enough_memory,
    of_whole_models,
    read_labelled,
    tune,
)
from geoladder.training.job import Hardware
from geoladder.training.ranks import other_ranks
from geoladder.training.settling import best_of, has_settled
from geoladder.training.tuning import Diverged

log = logging.getLogger(__name__)

MOST_WIDENINGS = 4
"""Rates beyond an end of the grid that are tried, at each end."""
Tried = dict[str, Any]
"""factor, lr, val_loss (None: not a finite number), steps, best_step, settled."""


def choose_rate(
    spec: RateSpec, files: BenchFiles, checkpoint: Path | None, out: Path, hardware: Hardware = ALONE
) -> None:
    """Try the rates of a grid, widen it while its best is at an end, and write the choice.

    `out` is JSON: lr and factor chosen, whether the best is `inside` the grid, and all `tried`. Runs already tried
    before an interruption are not made again. Arguments as of `finetune`.

    Raises:
        GeoladderError: as `finetune`; or no rate gave a finite loss.
        SystemExit: after SIGTERM; the same call goes on from there.
    """
    hardware = of_whole_models(hardware)
    with (
        alone_in_state(out, spec) as state,
        other_ranks(hardware.devices, partial(choose_rate, spec, files, checkpoint, out, hardware)),
        enough_memory(spec),
    ):
        torch.set_num_threads(hardware.threads)
        opened = Bench(files.archive, files.index, spec.harmonise)
        data = read_labelled(opened, spec, files)
        tried: dict[float, Tried] = {}
        waiting = list(spec.factors)
        while waiting:
            factor = waiting.pop(0)
            tried[factor] = _try(spec, factor, data, checkpoint, hardware, state)
            if not waiting:
                waiting = _beyond(tried, spec.factors)
        write_json(out, _choice(spec, tried))


def _try(
    spec: RateSpec, factor: float, data: Labelled, checkpoint: Path | None, hardware: Hardware, state: Path
) -> Tried:
    """One run at a multiple of the rate, or what was written of it before an interruption."""
    record = state / f"x{factor:g}.json"
    if record.exists():
        tried: Tried = json.loads(intact(record).read_text())
        return tried
    lr = spec.lr * factor
    tried = {"factor": factor, "lr": lr, "val_loss": None}
    try:
        run, curve = tune(
            spec.model_copy(update={"lr": lr}), data, checkpoint, hardware, state / f"x{factor:g}"
        )
    except Diverged as problem:
        log.info("rate %.3g: %s", lr, problem)
    else:
        best = best_of(curve)
        tried |= {"val_loss": best["val_loss"], "best_step": int(best["step"])}
        tried |= {"steps": int(curve[-1]["step"]), "settled": has_settled(curve, spec)}
        log.info("rate %.3g: validation loss %.6g at step %d", lr, best["val_loss"], best["step"])
        if run.fabric.is_global_zero:
            write_json(record, tried)
    return tried


def _beyond(tried: dict[float, Tried], grid: list[float]) -> list[float]:
    """The factor to try next, beyond the end where the best is; none where it lies inside, or enough were tried.

    Where no run had a finite loss, that is the lower end.
    """
    best = _best(tried)
    if best == min(tried) and sum(factor < grid[0] for factor in tried) < MOST_WIDENINGS:
        return [best * grid[0] / grid[1]]
    if best == max(tried) and sum(factor > grid[-1] for factor in tried) < MOST_WIDENINGS:
        return [best * grid[-1] / grid[-2]]
    return []


def _best(tried: dict[float, Tried]) -> float:
    """Factor of the lowest loss, the smallest of several."""
    losses = {factor: one["val_loss"] for factor, one in tried.items()}
    return min(sorted(tried), key=lambda factor: math.inf if losses[factor] is None else losses[factor])


def _choice(spec: RateSpec, tried: dict[float, Tried]) -> dict[str, Any]:
    """The file's content; raises GeoladderError where no run had a finite loss."""
    factor = _best(tried)
    chosen = tried[factor]
    if chosen["val_loss"] is None:
        raise GeoladderError(
            f"{spec.architecture}-{spec.size} from {spec.corpus} on {spec.task} (n={spec.n}) diverged at every rate "
            f"from {spec.lr * min(tried):.3g} to {spec.lr * max(tried):.3g}; give finetune.lr.choose smaller factors"
        )
    inside = min(tried) < factor < max(tried)
    if not inside:
        log.warning(
            "the best rate, %.3g, is at an end of the grid, widened as far as it may be", chosen["lr"]
        )
    code = code_fingerprint("choose_rate", spec.architecture, spec.task)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code),
        "lr": chosen["lr"],
        "factor": factor,
        "inside": inside,
        "tried": [tried[factor] for factor in sorted(tried)],
    }
