"""The shell command of a rule: what a study, a file's name or a wildcard holds is one word to the shell."""

import re

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"\w+(\.\w+|\[\d+\])*")


def command(words: str, launcher: str = "") -> str:
    """Snakemake's template of `geoladder --log FILE WORDS`, in which the value at each `{place}` is quoted.

    A list comes as one word for each of its elements. `launcher` is text before the command that the shell itself
    fills in, and so is never made from words of a study.

    Raises ValueError for a place with a format of its own, which would be a second way to write values.
    """
    for place in _PLACE.findall(words):
        if not _NAME.fullmatch(place):
            raise ValueError(
                f"'{{{place}}}' in the command '{words}' must be a name alone; it is quoted here"
            )
    quoted = _PLACE.sub(r"{\1:q}", words)
    return f"{launcher}geoladder --log {{log:q}} {quoted}"
