"""``python -m benchmarks.gate``."""

import sys

from benchmarks.gate.command import main

if __name__ == "__main__":
    sys.exit(main())
