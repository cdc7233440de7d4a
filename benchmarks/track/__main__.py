"""``python -m benchmarks.track``."""

import sys

from benchmarks.track.command import main

if __name__ == "__main__":
    sys.exit(main())
