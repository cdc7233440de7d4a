"""``python -m benchmarks.advise``."""

import sys

from benchmarks.advise.command import main

if __name__ == "__main__":
    sys.exit(main())
