"""What a command needs of its surroundings, whatever they are: open streams, text in UTF-8, figures without a screen.

Clusters and containers give it an ASCII locale, a notebook's backend of figures, or a terminal that is closed.
"""

import locale
import os
import sys


def settle() -> None:
    """Make the surroundings of this process fit, before anything is read or imported that depends on them.

    In another locale than UTF-8 the process starts anew, in Python's UTF-8 mode.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file to be opened would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    if not sys.flags.utf8_mode and locale.getpreferredencoding(False).upper() not in ("UTF-8", "UTF8"):
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    os.environ["MPLBACKEND"] = "Agg"


def end_quietly() -> int:
    """Exit status of a process whose reader has gone, as of `geoladder cells | head`; nothing more can be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + 13  # as shells report SIGPIPE
