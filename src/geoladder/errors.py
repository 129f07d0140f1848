"""The one exception a user is meant to read."""


class GeoladderError(Exception):
    """Something the user can mend: bad input, an impossible setting, a missing file.

    The command line prints the message alone (no traceback) and exits with status 1, so the message says
    what went wrong, where, what was found, what is allowed and how to fix it.
    """
