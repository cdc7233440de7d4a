"""Renders a page of some 2,000 made-up cells and says what it took: ``python -m tests.soak.two_thousand_cells --seeds 3``.

Ends with 1 where the page is 8 MB or larger, or took more than 40 seconds of CPU, which two cores give in 20.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from fabricated_records import fabricate, grid_cells, write  # the tests' own records, found by the line above

MOST_BYTES, MOST_CPU_S, CELLS = 8_000_000, 40.0, 2000
BACKBONES = ("hstu", "sasrec", "llama", "hllm")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of each configuration; with 1 there are as many configurations as cells")
    seeds = parser.parse_args().seeds
    histories = [32 + 8 * step for step in range(-(-CELLS // (48 * seeds)))]
    cells = grid_cells(seeds=range(1, seeds + 1), histories=histories, backbones=BACKBONES)
    from benchmarks.report.page import render_report  # what is imported counts too, as in a command

    with tempfile.TemporaryDirectory() as folder:
        run = write(Path(folder) / "run", [fabricate(cell) for cell in cells])
        before, began = time.process_time(), time.monotonic()
        page = render_report(run, Path(folder) / "page.html")
        took, waited, size = time.process_time() - before, time.monotonic() - began, page.stat().st_size
    counted = f"{len(cells):,} cells of {len(cells) // seeds:,} configurations"
    sys.stdout.write(f"{counted}: {took:.1f} s of CPU, {waited:.1f} s on the clock, {size:,} bytes\n")
    return int(size >= MOST_BYTES or took > MOST_CPU_S)


if __name__ == "__main__":
    sys.exit(main())
