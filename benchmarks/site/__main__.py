"""``python -m benchmarks.site``."""

import sys

from benchmarks.site.command import main

if __name__ == "__main__":
    sys.exit(main())
