"""The verb `geoladder fetch`: its options, and what it prints. Heavy imports wait until it runs."""

import argparse
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

from geoladder.errors import GeoladderError


def add_verb(verbs: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the verb's parser to the command line's."""
    parser = verbs.add_parser("fetch", help="fetch the parts of a MajorTOM archive a selection needs")
    parser.add_argument("url", help="https://host/folder or hf://datasets/owner/name@revision")
    parser.add_argument("--out", type=Path, required=True, help="folder of the archive")
    parser.add_argument("--fraction", type=_fraction, default=Fraction(1), help="of grid cells, nested: 1/16")
    parser.add_argument("--seed", type=int, default=0, help="draws the fraction (default 0)")
    parser.add_argument("--max-cloud", type=float, metavar="PERCENT", help="cloud cover of a tile, 0-100")
    parser.add_argument("--max-nodata", type=float, metavar="SHARE", help="missing pixels of a tile, 0-1")
    parser.add_argument("--since", type=_day, metavar="DAY", help="first day, such as 2018-01-01")
    parser.add_argument("--until", type=_day, metavar="DAY", help="last day")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("SOUTH", "WEST", "NORTH", "EAST"),
        help="degrees, around tile centres; WEST > EAST crosses the date line",
    )
    parser.add_argument(
        "--plan", action="store_true", help="fetch metadata alone; print tiles, parts and bytes"
    )
    parser.add_argument("--connections", type=int, default=4, help="most at one time (default 4)")
    parser.add_argument(
        "--group", type=_group, metavar="I/N", help="only every N-th part, from the I-th (from 1)"
    )
    parser.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> None:
    from geoladder.data.fetch.archive import fetch, prepare
    from geoladder.data.fetch.plan import Selection, describe

    selection = Selection(
        fraction=options.fraction,
        seed=options.seed,
        max_cloud_percent=options.max_cloud,
        max_nodata_share=options.max_nodata,
        since=options.since,
        until=options.until,
        box=tuple(options.box) if options.box else None,
    )
    bar = options.log is None  # jobs of a workflow share one terminal
    try:
        if options.group:
            # Jobs of one scatter must agree on the parts, so the plan is made before, once.
            _require_plan(options.out, options.url, selection)
        plan = prepare(options.url, selection, options.out, options.connections, again=options.plan)
        print(describe(plan))  # noqa: T201
        if not options.plan:
            print(fetch(plan, options.out, options.connections, options.group, bar=bar))  # noqa: T201
    except KeyboardInterrupt:
        raise GeoladderError("interrupted; what came is kept, and the same command continues") from None


def _require_plan(folder: Path, url: str, selection: Any) -> None:  # noqa: ANN401 - its import is heavy
    from geoladder.data.fetch.records import read_plan

    plan = read_plan(folder)
    if plan is None or plan.selection != selection:
        raise GeoladderError(
            f"{folder} has no plan of this selection for groups to share; first run the same command on {url} with "
            "--plan and without --group"
        )


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"'{text}' is no fraction; write 1/16 or 0.25") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write it like 2018-01-31") from None


def _group(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"'{text}' is no group; write 1/8 to 8/8 for eight groups")
    return int(index), int(count)
