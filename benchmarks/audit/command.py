"""What a log's older items could be worth: ``python -m benchmarks.audit ml-1m --data-dir DIR``. Nothing is trained, unless asked.

It counts for how many test targets the item is among the user's last R events, only among the older ones, or new, and what counters
rank with and without the older events. A counter's gain is neither an upper nor a lower bound of a model's.

With ``--model`` it also trains one small model, in minutes, and asks it with the older events, without, shuffled and aged.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.audit.record import Audit, AuditRecord, SmallModel, gain_in_words, load_audit, to_json
from benchmarks.environment import provenance
from benchmarks.environment.portable import portable_argv
from benchmarks.store import check_file
from benchmarks.text import percent, ratio
from persrec import names
from persrec.commandline import DONE, Parser, guarded, whole
from persrec.files import write_atomically

if TYPE_CHECKING:
    from persrec.data.interactions import InteractionLog
    from persrec.data.splits import Split

PROGRAM = "benchmarks.audit"
RECENT, MOST_RECENT = 16, 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _run(_parser().parse_args(arguments), arguments))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Says what a log's older items could be worth, before anything is trained.")
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(names.datasets())}, or FILE.toml")
    parser.add_argument("--size", help="a named size, where the dataset has sizes")
    parser.add_argument("--split", choices=names.SPLITS, default=names.LEAVE_ONE_OUT, help="default: leave-one-out")
    recent = whole(1, MOST_RECENT)
    parser.add_argument("--recent", type=recent, default=RECENT, metavar="R", help=f"how many last events are recent (default: {RECENT})")
    parser.add_argument("--model", action="store_true", help="also train a small model, in minutes, and ask it with and without them")
    parser.add_argument("--data-dir", metavar="DIR", help="where publishers' folders lie; only read (default: $PERSREC_DATA)")
    parser.add_argument("--cache-dir", metavar="DIR", help="where prepared data go (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the record DIR/audits/NAME-SPLIT.json")
    return parser


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.out is not None:
        check_file("--out", options.out / "audits" / "NAME.json")  # before data are prepared
    from benchmarks.audit.history import audit  # noqa: PLC0415 - torch takes seconds, and a refused call needs none
    from persrec.data import load_dataset  # noqa: PLC0415 - as above
    from persrec.data.splits import split_of  # noqa: PLC0415 - as above

    log = load_dataset(options.name, size=options.size, data_dir=options.data_dir, cache_dir=options.cache_dir)
    split = split_of(log, options.split)
    split.check_evaluated()
    path = None if options.out is None else _place(options.out, log, split.name, options)
    result = audit(split, log.item_categories, recent=options.recent)
    _print(log.name, options.split, result)
    model = _train_and_ask(split, options.recent) if options.model else None
    if path is not None:
        record = AuditRecord(
            dataset=log.name,
            size=options.size,
            split=split.name,
            days=split.days,
            digest=log.digest,
            seen_items=log.protocol.seen_items,
            statistics=log.notes["statistics"],
            audit=result,
            argv=("python", "-m", PROGRAM, *portable_argv(arguments)),
            commit=provenance(argv=[])["commit"],
            model=model,
        )
        write_atomically(path, to_json(record))
        print(path)
    return DONE


def _place(out: Path, log: "InteractionLog", split: str, options: argparse.Namespace) -> Path:
    """Where the record goes.

    Raises:
        ValueError: an audit of other data, or of another number of recent items, is there, and would be lost.
        RecordError: what is there is no record of an audit.
    """
    path = out / "audits" / f"{log.name}-{split}.json"
    there = load_audit(path)
    if there is None:
        return path
    modelled = there.model is not None and not options.model
    if (there.digest, there.audit.recent) != (log.digest, options.recent) or modelled:
        which = f"--size {there.size}, --recent {there.audit.recent}, data {there.digest[:8]}{', --model' * modelled}"
        raise ValueError(f"--out: {path}: is the record of another audit ({which}), which it would replace; choose another folder")
    return path


def _train_and_ask(split: "Split", recent: int) -> SmallModel:
    """Trains the small model, an epoch a line, and prints what it answers."""
    from benchmarks.audit.small_model import audited_model  # noqa: PLC0415 - torch takes seconds, and few calls need it

    console = Console(width=140)
    model = audited_model(
        split,
        recent=recent,
        on_epoch=lambda epoch: console.print(f"epoch {epoch.epoch}, validation ndcg@10 {epoch.validation:.4f}, {epoch.seconds:.0f} s"),
    )
    plateau = "on a plateau" if model.converged else "stopped before a plateau: it might yet change"
    console.print(
        f"one small model, one seed: HSTU {model.layers} x {model.width}, {model.history} + {recent}, {model.steps:,} steps, {plateau}"
    )
    table = Table("asked", "ndcg@10", "over without (95%, users of one seed)")
    for name, answer in model.asked.items():
        table.add_row(name, ratio(answer.ndcg), "" if name == "without" else gain_in_words(answer.gain, answer.low, answer.high))
    console.print(table)
    return model


def _print(name: str, split: str, result: Audit) -> None:
    console = Console(width=140)
    shares = result.shares
    console.print(
        f"{name}, {split}: {result.targets:,} targets of {result.users:,} users, {result.events_before:.0f} events before one (median)"
    )
    console.print(
        f"the target is among the last {result.recent} events for {percent(shares.recent)}, "
        f"only among older ones for {percent(shares.older)}, "
        f"and new for {percent(shares.new)}"
    )
    table = Table("counter", "metric", "whole past", f"last {result.recent}", "gain (95%)")
    for counter, values in result.counters.items():
        for metric, (gain, low, high) in values.gain.items():
            figures = [ratio(value) if value is not None else "" for value in (values.whole[metric], values.recent[metric])]
            table.add_row(counter, metric, *figures, gain_in_words(gain, low, high))
    console.print(table)
