"""Paths that a study names: files of the user's, anywhere, and the folder of its own results.

`~` and `$VARIABLES` in them are expanded once, when the study is read. A path that is written again, into the
snapshot that queued jobs read or into a spec, is written so that it reads as itself, whatever is set there.
"""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>\w+)|\{(?P<braced>\w+)\})")
_RESULTS = re.compile(r"results(/(?P<name>[a-z0-9][a-z0-9_-]*))?")
TAKEN = (
    *("pretrain", "oracle", "finetune", "gates", "linear", "trivial", "sweep", "splits", "rates", "released"),
    *("fits", "tables", "figures", "reference", "profile", "plan", "published"),
)
"""Folders below `results`, which no study's own can be."""


def expand(text: str) -> str:
    """A user's path with `~`, `~user`, `$NAME` and `${NAME}` replaced; `$$` is a dollar sign, `./~` a plain tilde.

    Raises ValueError for a variable that is not set, a user without a home, and a null character.
    """

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["braced"]
        if not match["dollar"] and name not in os.environ:
            raise ValueError(
                f"'{text}' names the variable {name}, which is not set; set it, or write $$ for a dollar sign"
            )
        return "$" if match["dollar"] else os.environ[name]

    if "\0" in text:
        raise ValueError(f"{text!r} has a null character, which no path can have; remove it")
    start, slash, rest = text.partition("/")
    if start.startswith("~"):
        home = os.path.expanduser(start)  # noqa: PTH111 - of the first folder alone; what it holds is no notation
        if home.startswith("~"):
            raise ValueError(
                f"'{text}': nobody here has the home {start}; write ./{start} for a folder of that name"
            )
        return home + slash + _VARIABLE.sub(value, rest)
    return _VARIABLE.sub(value, text)


def written(path: Path | str) -> str:
    """The inverse of `expand`: a text that reads as this path; most are their own."""
    text = str(path).replace("$", "$$")
    return f"./{text}" if text.startswith("~") else text


def _expanded(value: object) -> object:
    return expand(value) if isinstance(value, str) else value


UserPath = Annotated[Path, BeforeValidator(_expanded), PlainSerializer(written, when_used="json")]


def _own_folder(value: str) -> str:
    match = _RESULTS.fullmatch(value)
    if match is None or match["name"] in TAKEN:
        raise ValueError(
            f"'{value}' is no folder of results; write `results`, or `results/NAME` of small letters, digits, _ and "
            f"-, other than {', '.join(TAKEN)}"
        )
    return value


ResultsFolder = Annotated[str, AfterValidator(_own_folder)]
