"""`python -m geoladder`, the same as `geoladder`."""

import sys

from geoladder.cli import main

if __name__ == "__main__":
    sys.exit(main())
