"""``python -m benchmarks.audit``."""

import sys

from benchmarks.audit.command import main

if __name__ == "__main__":
    sys.exit(main())
