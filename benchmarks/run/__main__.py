"""``python -m benchmarks.run``."""

import sys

from benchmarks.run.command import main

if __name__ == "__main__":
    sys.exit(main())
