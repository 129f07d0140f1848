"""The verbs of compute-optimal sizes: from a fitted law, and from runs alone. Heavy imports wait until one runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geoladder.scaling.options import FitJson, Level, Report, Runs, write_report


def frontier(
    fit: FitJson,
    /,
    *,
    flops: Annotated[list[float], Parameter(consume_multiple=True, help="budgets C, one or more")],
    flops_per: Annotated[float, Parameter(help="C / (N D); 6 is dense training")] = 6.0,
    out: Report = None,
) -> None:
    """Find the best sizes for a budget, from a fitted law."""
    from geoladder.scaling.compute.allocate import allocate
    from geoladder.scaling.fit import record

    law, sha256 = record.read_with_digest(fit)
    allocations = [allocate(law, budget, flops_per) for budget in flops]
    for best in allocations:
        far = f"; {' and '.join(best.outside)} outside the sizes fitted" if best.outside else ""
        print(f"C = {best.flops:.3g}: N = {best.n}, D = {best.d}, D/N = {best.d_per_n}, y = {best.y}{far}")  # noqa: T201
    print(f"N* grows as C^{allocations[0].exponent}")  # noqa: T201
    report = {"allocations": [asdict(best) for best in allocations]}
    write_report(out, report, fit, sha256, {"flops": flops, "flops_per": flops_per})


def isoflop(
    points: Annotated[Path, Parameter(help="as of `fit`, one row per run; a budget needs three sizes")],
    /,
    *,
    flops: Annotated[str, Parameter(help="column of the budgets C")] = "flops",
    n: Annotated[str, Parameter(help="column of the parameters")] = "n",
    y: Annotated[str, Parameter(help="column of the errors")] = "y",
    flops_per: Annotated[float, Parameter(help="C / (N D), for the law that the bias is judged by")] = 6.0,
    level: Level = 0.95,
    rng: Annotated[int, Parameter(help="seed of the intervals' draws")] = 42,
    out: Report = None,
) -> None:
    """Find the best N of each budget from runs alone, and how it grows."""
    from geoladder.scaling.compute.allocate import Estimate
    from geoladder.scaling.compute.isoflop import isoflop as minima_of

    table, _ = Runs(n=n, y=y).read(points, [flops])
    curves = minima_of(table.rows, flops, n, y, per=flops_per, level=level, rng=rng)
    for best in curves.minima:
        size = Estimate(best.n, best.low, best.high)
        far = "" if best.inside else "; outside the sizes run"
        print(f"C = {best.flops:.3g}: N = {size}, y = {best.y:.3g} of {best.points} runs{far}")  # noqa: T201
    if line := curves.line:
        print(f"N* = {line.coefficient:.3g} C^{Estimate(line.slope, line.low, line.high)}")  # noqa: T201
        if bias := curves.bias:
            print(  # noqa: T201
                f"bias of the method at these sizes, had the additive law of the same runs no noise: exponent "
                f"{bias.slope:+.3g}, N* at the largest budget {bias.n:.3g} times as large"
            )
    else:
        print("fewer than two budgets have a minimum inside the sizes run: no exponent")  # noqa: T201
    write_report(
        out,
        asdict(curves),
        points,
        table.sha256,
        {"flops": flops, "n": n, "y": y, "flops_per": flops_per, "level": level, "rng": rng},
    )
