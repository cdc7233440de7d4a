"""Sends a run's numbers and its report to MLflow: ``python -m benchmarks.track results/NAME --uri sqlite:///mlflow.db``."""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import store
from benchmarks.records import load_records
from benchmarks.track.entries import entries
from benchmarks.track.sending import MlflowRun
from persrec.commandline import DONE, INCOMPLETE, Parser, guarded, refuse

_PROGRAM = "python -m benchmarks.track"
_EXPERIMENT = "persrec"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_PROGRAM, lambda: _main(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="Sends a run's numbers and its report to an experiment tracker; nothing else ever does.")
    parser.add_argument("results", type=Path, metavar="results/NAME")
    parser.add_argument("--tracker", choices=("mlflow",), default="mlflow", help="default: mlflow, which the extra of this name installs")
    parser.add_argument("--uri", help="where it keeps its runs: sqlite:///FILE.db or a server's (default: $MLFLOW_TRACKING_URI)")
    parser.add_argument("--experiment", default=_EXPERIMENT, metavar="NAME", help=f"default: {_EXPERIMENT}")
    return parser


def _main(options: argparse.Namespace) -> int:
    uri = options.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ValueError("--uri: missing, and $MLFLOW_TRACKING_URI is not set; expected such as sqlite:///mlflow.db")
    digest = store.records_digest(options.results)  # before the records are read: the next call then sends what is written meanwhile
    records = load_records(options.results)
    if not records:
        refuse(_PROGRAM, f"{options.results / 'cells'}: no record, so there is nothing to send")
        return INCOMPLETE
    name = options.results.resolve().name
    tracker = MlflowRun(uri=uri, experiment=options.experiment)
    if tracker.holds(digest):
        print(f"{uri}: holds these records of {name} already; nothing is sent")
        return DONE
    from benchmarks.report.page import render_report  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn

    with tempfile.TemporaryDirectory(prefix="persrec-track-") as folder:
        files = Path(folder)
        render_report(options.results, files / f"{name}.html")
        run = tracker.send(name, list(entries(records)), files=files, digest=digest)
    print(f"{uri}: {len(records)} cells and the report of {name} as run {run} of experiment {options.experiment}")
    return DONE
