"""``python -m benchmarks.noise``."""

import sys

from benchmarks.noise.command import main

if __name__ == "__main__":
    sys.exit(main())
