"""A fit as JSON and back, and in a few lines a person can read."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.runs.digest import intact
from geoladder.scaling.fit.criticism import Criticism, Cut
from geoladder.scaling.fit.effects import Effects
from geoladder.scaling.fit.identify import Identifiability
from geoladder.scaling.fit.mixed import Variance
from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.fit.result import Bootstrap, Fit, Minimum, New, Status
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.laws.loss import Loss
from geoladder.text import decode

LATER = ("variance", "criticism", "effects", "r2", "rmse")
"""Keys that files of earlier versions lack."""
KEPT_DRAWS = 400
"""Bootstrap draws kept in a file, for bands; every k-th, so that they stay a sample."""


def to_json(fit: Fit) -> dict[str, Any]:
    """A fit as JSON values; open ends of intervals and parameters of a refused law are null, held ones have none.

    Keys: form, equation, status, objective, loss, params, intervals.<kind>.<parameter> = [low, high],
    identifiability, minima, n_points, starts, reached, noise, ranges, bootstrap, draws, residuals, reduced, variance,
    criticism, effects, r2, rmse.
    """
    names = form_of(fit.form).parameters
    refused = fit.status is Status.NOT_IDENTIFIED
    kinds = {"profile": {}, "bootstrap": {}} if refused else fit.intervals
    step = max(1, len(next(iter(fit.draws.values()), [])) // KEPT_DRAWS)
    return dataclasses.asdict(fit) | {
        "loss": {"kind": fit.loss.kind, "delta": fit.loss.delta if np.isfinite(fit.loss.delta) else None},
        "params": dict.fromkeys(names) if refused else fit.params,
        "intervals": {
            kind: {
                name: list(by_name.get(name, (None, None))) for name in names if refused or name in by_name
            }
            for kind, by_name in kinds.items()
        },
        "draws": {name: values[::step].tolist() for name, values in fit.draws.items()},
        "residuals": fit.residuals.tolist(),
        "reduced": None if fit.reduced is None else to_json(fit.reduced),
    }


def from_json(raw: dict[str, Any]) -> Fit:
    """The inverse of `to_json`, but for the draws left out; further keys are ignored.

    Raises:
        GeoladderError: a key is missing.
    """
    try:
        loss, refused = raw["loss"], raw["status"] == Status.NOT_IDENTIFIED
        values = {
            field.name: raw[field.name] for field in dataclasses.fields(Fit) if field.name not in LATER
        } | {
            "status": Status(raw["status"]),
            "identifiability": Identifiability(**raw["identifiability"]),
            "loss": Loss(loss["kind"], float("inf") if loss["delta"] is None else loss["delta"]),
            "params": {} if refused else raw["params"],
            "intervals": {} if refused else {kind: _pairs(ends) for kind, ends in raw["intervals"].items()},
            "minima": [Minimum(**minimum) for minimum in raw["minima"]],
            "ranges": _pairs(raw["ranges"]),
            "bootstrap": raw["bootstrap"] and Bootstrap(**raw["bootstrap"]),
            "draws": {name: np.array(draws) for name, draws in raw["draws"].items()},
            "residuals": np.array(raw["residuals"]),
            "reduced": raw["reduced"] and from_json(raw["reduced"]),
            "variance": (split := raw.get("variance")) and Variance(**split),
            "criticism": (found := raw.get("criticism"))
            and Criticism(**found | {"cuts": [Cut(**cut) for cut in found["cuts"]]}),
            "effects": (effects := raw.get("effects")) and Effects(**effects),
            "r2": raw.get("r2"),
            "rmse": raw.get("rmse"),
        }
        return Fit(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise GeoladderError(f"this is no fit written by `geoladder fit`: {problem!r}") from None


def _pairs(ends: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(pair) for name, pair in ends.items()}


def read(path: Path) -> Fit:
    """Read a fit; raises GeoladderError where there is none, or it was damaged or edited."""
    return read_with_digest(path)[0]


def read_with_digest(path: Path) -> tuple[Fit, str]:
    """A fit and the SHA-256 of the bytes it was read from; raises as `read`."""
    try:
        content = intact(path).read_bytes()
        raw = json.loads(decode(content, path))
    except (OSError, ValueError, RecursionError) as problem:
        raise GeoladderError(f"{path} cannot be read as a fit: {problem}") from None
    try:
        return from_json(raw), hashlib.sha256(content).hexdigest()
    except GeoladderError as problem:
        raise GeoladderError(f"{path}: {problem}") from None


def summary(fit: Fit) -> str:
    """Parameters with their intervals, how the search went, and what the data cannot say."""
    head = f"{fit.equation}   ({fit.n_points} points, {fit.loss.kind} loss)"
    verdict = f"{fit.status}; {fit.identifiability.verdict.replace('_', ' ')}"
    reasons = [f"  - {reason}" for reason in fit.identifiability.reasons]
    if fit.status is Status.NOT_IDENTIFIED:
        lines = [head, verdict, *reasons]
        if fit.reduced:
            instead = f"what these points can carry instead, --form {fit.reduced.form}:"
            lines += ["", instead, summary(fit.reduced)]
        return "\n".join(lines)
    rows = [f"  {'':8} {'value':>12}" + "".join(f"  {kind:>24}" for kind in fit.intervals)]
    for name, value in fit.params.items():
        cells = "".join(f"  {_ends(by_name.get(name)):>24}" for by_name in fit.intervals.values())
        rows.append(f"  {name:8} {value:12.6g}{cells}")
    search = f"objective {fit.objective:.10g}; {fit.reached:.0%} of {fit.starts} starts reached it"
    if fit.rmse is not None:
        search = f"rmse {fit.rmse:.4g}, R2 {'none' if fit.r2 is None else f'{fit.r2:.5f}'}; {search}"
    if fit.minima:
        search += f"; {len(fit.minima)} other minima within 1 %"
    if fit.variance:
        verdict += f"; {fit.variance.verdict}"
    if fit.criticism and not fit.criticism.lack_of_fit:
        search += f"; {fit.criticism.verdict}"
    return "\n".join([head, *rows, search, verdict, *reasons])


def prediction(law: Fit, level: float, sizes: dict[str, Array]) -> str:
    """What one law expects, with what interval, and how far that is to be relied on."""
    line = f"y = {law.predict(**sizes)[0]:.6g}"
    if law.draws:
        (low,), (high,) = law.band(level, **sizes)
        (least,), (most,) = law.prediction(level, "run", **sizes)
        line += f"; the law [{low:.6g}, {high:.6g}]{_narrower(law, level, sizes)}"
        line += f", a new run [{least:.6g}, {most:.6g}]"
    if (decades := law.decades_outside(**sizes)[0]) > 0:
        line += f"; {decades:.1f} decades outside the sizes fitted"
    caution = law.caution(**sizes)
    return f"{line}; {caution}" if caution else line


def _narrower(law: Fit, level: float, sizes: dict[str, Array]) -> str:
    """Intervals of a new seed, where that cell was run, and of a new cell, where whole runs vary beside cells."""
    text = ""
    for new in get_args(New)[:2]:
        try:
            low, high = (float(end[0]) for end in law.prediction(level, new, **sizes))
        except GeoladderError:
            continue
        name = "a new seed of this cell" if new == "seed" else "a new cell"
        if new == "seed" or (law.variance and law.variance.sigma_run):
            text += f", {name} [{low:.6g}, {high:.6g}]"
    return text


def _ends(interval: Interval | None) -> str:
    if interval is None:
        return "held"
    low, high = ("open" if end is None else f"{end:.5g}" for end in interval)
    return f"[{low}, {high}]"
