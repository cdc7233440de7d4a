"""The options of ``python -m benchmarks.run``."""

import argparse
from pathlib import Path

from benchmarks.grids import preset_names
from persrec import names
from persrec.commandline import Parser, whole

PROGRAM = "benchmarks.run"


def parser() -> Parser:
    """The options."""
    options = Parser(prog=PROGRAM, description="Trains and profiles every cell of a grid, writes a record each, and renders the report.")
    options.add_argument(
        "--grid", required=True, metavar="NAME|FILE.toml", help=f"{', '.join(preset_names())}, or a TOML file of one's own"
    )
    options.add_argument("--dataset", metavar="NAME|FILE.toml", help="the dataset of every cell (default: the grid's own, else synthetic)")
    options.add_argument("--split", choices=names.SPLITS, help="the split of every cell (default: the grid's own, else leave-one-out)")
    options.add_argument(
        "--protocol",
        choices=tuple(names.PROTOCOLS),
        help="train and rank every cell on the events of a published protocol, told the request's time or not as its rows are "
        "(default: the grid's own, else own: all events)",
    )
    options.add_argument("--data-dir", metavar="DIR", help="where publishers' folders lie; only read (default: $PERSREC_DATA)")
    options.add_argument("--cache-dir", metavar="DIR", help="where prepared data go (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    options.add_argument("--select", default="", metavar="EXPR", help="only cells that match, as 'backbone=hstu,tokens=0|4'")
    options.add_argument("--seeds", type=_seeds, default=(), metavar="1,2,3", help="every cell once per seed")
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--out", type=Path, metavar="DIR", help="where records go (default: results/GRID-DATASET-DEVICE)")
    options.add_argument(
        "--resume",
        choices=("missing", "failed", "always"),
        default="missing",
        help="what to measure: cells without a record, also those that failed, or all (default: missing)",
    )
    options.add_argument("--only", choices=("quality", "cost"), help="measure this half of each cell, and leave the other as it is")
    options.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="where processes run (default: local, on this machine)"
    )
    options.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="models trained side by side (default: as many as the processors carry, 1 on a GPU); costs run one at a time, but for "
        "a grid that needs no timings; with --executor slurm, jobs in the queue at once (default: 100, or as the grid says)",
    )
    options.add_argument("--list", action="store_true", help="print the cells and an estimate; run nothing")
    options.add_argument("--no-report", action="store_true", help="render no report")
    options.add_argument("--quiet", action="store_true", help="print nothing but the report's path")
    return options


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(map(whole(), text.split(","))))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers from 0, as 1,2,3") from None
