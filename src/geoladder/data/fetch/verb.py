"""The verb `geoladder fetch`: its options, and what it prints. Heavy imports wait until it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from geoladder.study.corpora import Select

SELECT_KEYS = {
    "fraction": "fraction",
    "seed": "seed",
    "since": "since",
    "until": "until",
    "box": "boxes",
    "cells": "cells",
    "max_cloud": "max_cloud_percent",
    "max_nodata": "max_nodata_share",
    "min_land": "min_land_share",
}
"""Options and the study's keys under `select`."""


def add_verb(verbs: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the verb's parser to the command line's."""
    parser = verbs.add_parser("fetch", help="fetch the tiles of a MajorTOM archive a selection takes")
    parser.add_argument("url", nargs="?", help="https://host/folder or hf://datasets/owner/name@revision")
    parser.add_argument(
        "--spec", metavar="JSON", help="address and selection of a node, in place of the options"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the archive")
    parser.add_argument("--fraction", help="of grid cells, nested: 1/16")
    parser.add_argument("--seed", type=int, help="draws the fraction (default 0)")
    parser.add_argument("--max-cloud", type=float, metavar="PERCENT", help="cloud cover of a tile, 0-100")
    parser.add_argument("--max-nodata", type=float, metavar="SHARE", help="missing pixels of a tile, 0-1")
    parser.add_argument(
        "--min-land", type=float, metavar="SHARE", help="land in a tile by a map of 12 km, 0-1"
    )
    parser.add_argument("--since", metavar="DAY", help="first day, such as 2018-01-01")
    parser.add_argument("--until", metavar="DAY", help="last day")
    parser.add_argument("--cells", type=Path, help="text file, a grid cell like 433D_629L on each line")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        action="append",
        metavar=("SOUTH", "WEST", "NORTH", "EAST"),
        help="degrees, around tile centres; WEST > EAST crosses the date line; may be repeated",
    )
    parser.add_argument(
        "--whole-parts",
        action="store_true",
        help="fetch parts whole, also where few of their tiles are wanted",
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
    from geoladder.data.fetch.plan import describe

    url, select = _wanted(options)
    bar = options.log is None  # jobs of a workflow share one terminal
    try:
        if options.group:
            # Jobs of one scatter must agree on the parts, so the plan is made before, once.
            _require_plan(options.out, url, select, options.whole_parts)
        plan = prepare(
            url,
            select,
            options.out,
            options.connections,
            again=options.plan,
            whole_parts=options.whole_parts,
        )
        print(describe(plan))  # noqa: T201
        if not options.plan:
            print(fetch(plan, options.out, options.connections, options.group, bar=bar))  # noqa: T201
    except KeyboardInterrupt:
        raise GeoladderError("interrupted; what came is kept, and the same command continues") from None


def _wanted(options: argparse.Namespace) -> tuple[str, "Select"]:
    """Address and selection, from the spec of a node or from options."""
    from pydantic import ValidationError

    from geoladder.study.corpora import Select
    from geoladder.study.specs import FetchSpec

    given = {key: getattr(options, option) for option, key in SELECT_KEYS.items()}
    given = {key: value for key, value in given.items() if value is not None}
    if (options.spec is None) == (options.url is None) or (options.spec and given):
        raise GeoladderError("give either an address, and options that select tiles, or --spec with both")
    try:
        if options.spec:
            spec = FetchSpec.model_validate_json(options.spec)
            return spec.url, spec.select
        return options.url, Select.model_validate(given)
    except ValidationError as problem:
        names = {key: f"--{option.replace('_', '-')}" for option, key in SELECT_KEYS.items()}
        said = "; ".join(
            f"{names.get(str(error['loc'][0]), error['loc'][0]) if error['loc'] else 'selection'}: "
            f"{error['msg'].removeprefix('Value error, ')} (got {error['input']!r})"
            for error in problem.errors()
        )
        raise GeoladderError(said) from None


def _require_plan(folder: Path, url: str, select: "Select", whole_parts: bool) -> None:
    from geoladder.data.fetch.records import read_plan

    plan = read_plan(folder)
    if plan is None or not plan.is_of(select, whole_parts):
        raise GeoladderError(
            f"{folder} has no plan of this selection for groups to share; first run the same command on {url} with "
            "--plan and without --group"
        )


def _group(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"'{text}' is no group; write 1/8 to 8/8 for eight groups")
    return int(index), int(count)
