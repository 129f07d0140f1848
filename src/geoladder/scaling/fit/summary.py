"""A fit in a few lines a person can read."""

from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.fit.result import Fit, Status


def summary(fit: Fit) -> str:
    """Parameters with their intervals, how the search went, and what the data cannot say."""
    head = f"{fit.equation}   ({fit.n_points} points, {fit.loss.kind} loss)"
    verdict = f"{fit.status}; {fit.identifiability.verdict.replace('_', ' ')}"
    reasons = [f"  - {reason}" for reason in fit.identifiability.reasons]
    if fit.status is Status.NOT_IDENTIFIED:
        lines = [head, verdict, *reasons]
        if fit.reduced is not None:
            lines += [
                "",
                f"what these points can carry instead, --form {fit.reduced.form}:",
                summary(fit.reduced),
            ]
        return "\n".join(lines)
    kinds = list(fit.intervals)
    rows = [f"  {'':8} {'value':>12}" + "".join(f"  {kind:>24}" for kind in kinds)]
    for name, value in fit.params.items():
        cells = "".join(f"  {_ends(fit.intervals[kind].get(name)):>24}" for kind in kinds)
        rows.append(f"  {name:8} {value:12.6g}{cells}")
    search = f"objective {fit.objective:.10g}; {fit.reached:.0%} of {fit.starts} starts reached it"
    if fit.minima:
        search += f"; {len(fit.minima)} other minima within 1 %"
    return "\n".join([head, *rows, search, verdict, *reasons])


def _ends(interval: Interval | None) -> str:
    if interval is None:
        return "held"
    low, high = ("open" if end is None else f"{end:.5g}" for end in interval)
    return f"[{low}, {high}]"
