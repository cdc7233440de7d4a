"""``python -m benchmarks.merge``."""

import sys

from benchmarks.merge.command import main

if __name__ == "__main__":
    sys.exit(main())
