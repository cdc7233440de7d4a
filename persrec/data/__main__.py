"""``python -m persrec.data``: lists the datasets, prepares one, describes one. Exit codes are those of `persrec.commandline`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persrec import names
from persrec.commandline import DONE, Parser, guarded
from persrec.data import dataset, load_dataset
from persrec.data.interactions import UNKNOWN_TIME, InteractionLog
from persrec.data.prepared import default_cache_dir, prepared_folders, read_prepared

PROGRAM = "python -m persrec.data"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    return guarded(PROGRAM, lambda: _run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    print("\n".join(arguments.command(arguments)))
    return DONE


def _list(_: argparse.Namespace) -> list[str]:
    lines = []
    for name in names.datasets():
        source = dataset(name)
        needs = "publisher's files" if source.needs_files else "generated"
        lines.append(f"{name:<12} {needs}" + (f"; sizes: {', '.join(source.sizes)}" if source.sizes else ""))
    return lines


def _prepare(arguments: argparse.Namespace) -> list[str]:
    source = dataset(arguments.name)
    data_dir = arguments.source or os.environ.get("PERSREC_DATA")
    if source.needs_files and not data_dir:
        raise ValueError(f"prepare {source.name}: no --source; expected the folder that holds {source.name}/ (or $PERSREC_DATA)")
    log = load_dataset(source.name, size=arguments.size, data_dir=data_dir, cache_dir=arguments.cache_dir)
    return [*_description(log), f"cache         {_cache_dir(arguments)}"]


def _describe(arguments: argparse.Namespace) -> list[str]:
    source = dataset(arguments.name)
    if not source.needs_files:
        return _description(load_dataset(source.name, size=arguments.size, cache_dir=arguments.cache_dir))
    if arguments.size is not None:
        raise ValueError(f"size: {arguments.size!r} of dataset {source.name!r}, which has no sizes")
    cache_dir = _cache_dir(arguments)
    folders = prepared_folders(cache_dir, source.name)
    if not folders:
        prepare = f"python -m persrec.data prepare {source.name} --source DIR"
        raise ValueError(f"describe {source.name}: nothing prepared in {cache_dir}; run: {prepare}")
    return [line for folder in folders for line in _description(read_prepared(folder))]


def _description(log: InteractionLog) -> list[str]:
    lengths = log.lengths
    items = log.num_items - 1
    known = log.times[log.times != UNKNOWN_TIME]
    facts: dict[str, Any] = {
        "name": log.name,
        "digest": log.digest,
        "interactions": f"{len(log):,}",
        "users": f"{log.num_users:,}",
        "items": f"{items:,}",
        "events a user": f"median {np.median(lengths):.0f}, p90 {np.percentile(lengths, 90):.0f}, max {lengths.max():,}",
        "times known": f"{len(known) / len(log):.1%}",
        "seen items": "excluded" if log.exclude_seen else "kept",
        "texts": "no" if log.item_texts is None else f"{sum(map(bool, map(str.strip, log.item_texts))):,} of {items:,} items",
        "categories": "no" if log.item_categories is None else _categories(log.item_categories),
    }
    facts |= {name: log.notes[name] for name in ("file",) if name in log.notes}
    facts |= {f"{column} from": how for column, how in log.notes.get("converted", {}).items()}
    return [f"{name:<13} {value}" for name, value in facts.items()]


def _categories(of_items: NDArray[np.int64]) -> str:
    known = of_items[of_items > 0]
    return f"{len(np.unique(known)):,}, of {len(known):,} of {len(of_items) - 1:,} items"


def _cache_dir(arguments: argparse.Namespace) -> Path:
    return default_cache_dir() if arguments.cache_dir is None else Path(arguments.cache_dir)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Datasets: list, prepare, describe.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="list|prepare|describe")
    listing = commands.add_parser("list", help="the datasets there are", allow_abbrev=False)
    listing.set_defaults(command=_list)
    prepare = commands.add_parser("prepare", help="prepare a dataset into the cache", allow_abbrev=False)
    prepare.add_argument("--source", metavar="DIR", help="holds NAME/ with the publisher's files (default: $PERSREC_DATA)")
    prepare.set_defaults(command=_prepare)
    describe = commands.add_parser("describe", help="say what a prepared dataset holds", allow_abbrev=False)
    describe.set_defaults(command=_describe)
    for command in (prepare, describe):
        command.add_argument("name", metavar="NAME", help=f"one of {', '.join(names.datasets())}")
        command.add_argument("--size", help="a named size, where the dataset has sizes")
        command.add_argument("--cache-dir", metavar="DIR", help="of prepared data (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
