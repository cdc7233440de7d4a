"""``python -m persrec.data``: lists the datasets, prepares one, describes one, looks at a file of one's own.

Exit codes are those of `persrec.commandline`.
"""

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persrec import names
from persrec.commandline import DONE, Parser, guarded, whole
from persrec.data import dataset, load_dataset
from persrec.data.base import MEMORY, Bounds, Dataset
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import default_cache_dir, prepared_folder, prepared_folders, read_prepared
from persrec.data.tables.ledger import Ledger
from persrec.files import write_atomically

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
        facts = [f"needs {source.needs}" if source.needs else "generated"]
        facts += [f"sizes: {', '.join(source.sizes)}"] if source.sizes else []
        facts += [f"licence: {source.licence}"] if source.licence else []
        facts += ["--download loads it"] if getattr(source, "download", None) else []
        lines.append(f"{name:<16} {'; '.join(facts)}")
    return [*lines, f"{'FILE.toml':<16} a table of your own; {PROGRAM} init FILE writes one"]


def _prepare(arguments: argparse.Namespace) -> list[str]:
    source = dataset(arguments.name)
    data_dir = arguments.source or os.environ.get("PERSREC_DATA")
    if _is_published(source) and not data_dir:
        raise ValueError(f"prepare {source.name}: no --source; expected the folder that holds {source.name}/ (or $PERSREC_DATA)")
    if arguments.parquet is not None and arguments.parquet.exists():  # before minutes of preparation
        raise ValueError(f"--parquet: {arguments.parquet}: is there already; expected a place where nothing is")
    if arguments.download:
        _download(source, Path(data_dir or "."))
    bounds = Bounds(memory=arguments.memory, threads=arguments.threads)
    log = load_dataset(arguments.name, size=arguments.size, data_dir=data_dir, cache_dir=arguments.cache_dir, bounds=bounds)
    parquet_lines = [] if arguments.parquet is None else [f"{'parquet':<18} {_export(arguments, source, log)}"]
    return [*_description(log), f"{'cache':<18} {_cache_dir(arguments)}", *parquet_lines]


def _export(arguments: argparse.Namespace, source: Dataset, log: InteractionLog) -> str:
    """Writes the prepared data as partitioned Parquet, too; returns where and how much."""
    from persrec.data.export import write_partitions  # noqa: PLC0415 - no other command needs it

    prepared = prepared_folder(_cache_dir(arguments), source.folder(arguments.size), log.digest)
    num_folders = write_partitions(log, prepared, arguments.parquet)
    return f"{arguments.parquet}, {num_folders:,} folder{'s' * (num_folders != 1)} of {len(log):,} rows"


def _download(source: Dataset, data_dir: Path) -> None:
    """Loads the publisher's archive, unless its folder is there."""
    from persrec.data.tables.download import fetch  # noqa: PLC0415 - nothing else may reach a network
    from persrec.data.tables.source import PublishedDataset  # noqa: PLC0415 - as above

    if not isinstance(source, PublishedDataset) or source.download is None:
        advice = f"; put {source.needs} into {data_dir / source.name}/" if source.needs else ""
        raise ValueError(f"prepare {source.name}: --download: there is no archive with a digest beside it{advice}")
    if not any((data_dir / folder).is_dir() for folder in source.folders or (source.name,)):
        print(f"{source.name}: {source.licence}", file=sys.stderr)
        fetch(source.name, source.download, data_dir, lambda text: print(text, file=sys.stderr))


def _describe(arguments: argparse.Namespace) -> list[str]:
    source = dataset(arguments.name)
    if not source.needs:
        logs = [load_dataset(source.name, size=arguments.size, cache_dir=arguments.cache_dir)]
    else:
        cache_dir = _cache_dir(arguments)
        folders = prepared_folders(cache_dir, source.folder(arguments.size), dataset=source.name)
        if not folders:
            prepare = f"{PROGRAM} prepare {arguments.name}" + (" --source DIR" if _is_published(source) else "")
            raise ValueError(f"describe {source.name}: nothing prepared in {cache_dir}; run: {prepare}")
        logs = [read_prepared(folder) for folder in folders]
    if arguments.plot is not None:
        from persrec.data.plots import plot  # noqa: PLC0415 - matplotlib takes a moment, and a description in words needs none

        plot(logs[-1], arguments.plot)
    return [line for log in logs for line in _description(log)]


def _init(arguments: argparse.Namespace) -> list[str]:
    from persrec.data.tables.guess import guess, stem  # noqa: PLC0415 - no other command needs it
    from persrec.data.tables.own import described  # noqa: PLC0415 - as above

    path = Path(arguments.file)
    out = path.with_name(f"{stem(path)}.toml")
    if out.exists():
        raise ValueError(f"{out}: is there already; expected none, since what was corrected in it would be lost")
    text = f"# what {PROGRAM} init took {path.name} to be: check every line (docs/your_own_data.md)\n{described(guess(path))}"
    write_atomically(out, text.encode())
    return [text.rstrip(), "", f"{out} is written. Check it, then: {PROGRAM} prepare {shlex.quote(str(out))}"]


def _is_published(source: Dataset) -> bool:
    return bool(source.needs) and source.name in names.datasets()


def _description(log: InteractionLog) -> list[str]:
    figures = log.notes["statistics"]
    length, popularity = figures["length"], figures["popularity"]
    items = figures["items"]
    ties = figures["tied_last_share"]
    facts: dict[str, Any] = {
        "name": log.name,
        "digest": log.digest,
        "interactions": f"{len(log):,}",
        "users": f"{log.num_users:,}",
        "items": f"{items:,}",
        "events a user": f"median {length['median']:.0f}, p90 {length['p90']:.0f}, max {length['most']:,}",
        "users with": ", ".join(f"{count:,} from {minimum}" for minimum, count in figures["users_by_length"].items()),
        "events of items": f"top 1%: {popularity['1%']:.1%}, top 10%: {popularity['10%']:.1%}; median {popularity['median']:.0f}",
        "repeats": f"{figures['repeat_share']:.1%} of the events are of an item that the user had before",
        "from, to": "unknown" if figures["last_time"] is None else f"{_day(figures['first_time'])}, {_day(figures['last_time'])}",
        "times unknown": f"{figures['unknown_time_share']:.1%}",
        "last two tied": "unknown" if ties is None else f"{ties:.1%} of the users: the files' order decides which one is the test's",
        "seen items": "excluded" if log.exclude_seen else "kept",
        "texts": "no" if log.item_texts is None else f"{sum(map(bool, map(str.strip, log.item_texts))):,} of {items:,} items",
        "categories": "no" if log.item_categories is None else _categories(log),
    }
    facts |= {f"{column} from": conversion for column, conversion in log.notes.get("converted", {}).items()}
    return [f"{name:<18} {value}" for name, value in (facts | _ledger(log.notes)).items()]


def _ledger(notes: Mapping[str, Any]) -> dict[str, str]:
    """What became of the sources' rows."""
    if "ledger" not in notes:
        return {}
    ledger = Ledger.from_dict(notes["ledger"])
    dropped = {f"dropped {number}": f"{rows:,}: {reason}" for number, (reason, rows) in enumerate(ledger.dropped.items(), start=1)}
    return {"files": ", ".join(notes["files"]), "rows in": f"{ledger.rows_in:,}", "rows kept": f"{ledger.kept:,}", **dropped}


def _day(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).date().isoformat()


def _categories(log: InteractionLog) -> str:
    assert log.item_categories is not None  # noqa: S101 - asked before
    categories = log.item_categories[log.item_categories > 0]
    return f"{len(set(categories.tolist())):,}, of {len(categories):,} of {log.num_items - 1:,} items"


def _cache_dir(arguments: argparse.Namespace) -> Path:
    return default_cache_dir() if arguments.cache_dir is None else Path(arguments.cache_dir)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Datasets: list, prepare, describe; init for a table of your own.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="list|prepare|describe|init")
    listing = commands.add_parser("list", help="the datasets there are, what each needs and its licence", allow_abbrev=False)
    listing.set_defaults(command=_list)
    prepare = commands.add_parser("prepare", help="prepare a dataset into the cache", allow_abbrev=False)
    prepare.add_argument("--source", "--data-dir", metavar="DIR", help="holds NAME/ with the publisher's files (default: $PERSREC_DATA)")
    prepare.add_argument("--download", action="store_true", help="first load the publisher's archive into --source, checked by its digest")
    prepare.add_argument("--memory", default=MEMORY, metavar="SIZE", help=f"of the engine's buffers (default: {MEMORY})")
    prepare.add_argument("--threads", type=whole(1), metavar="N", help="of the engine (default: one a processor); changes no digest")
    prepare.add_argument("--parquet", type=Path, metavar="DIR", help="write the prepared events as partitioned Parquet too")
    prepare.set_defaults(command=_prepare)
    describe = commands.add_parser("describe", help="say what a prepared dataset holds", allow_abbrev=False)
    describe.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw lengths, popularity and time")
    describe.set_defaults(command=_describe)
    for command in (prepare, describe):
        command.add_argument("name", metavar="NAME", help=f"one of {', '.join(names.datasets())}, or FILE.toml")
        command.add_argument("--size", help="a named size, where the dataset has sizes")
        command.add_argument("--cache-dir", metavar="DIR", help="of prepared data (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    init = commands.add_parser("init", help="look at a file and write the TOML that describes it, to be corrected", allow_abbrev=False)
    init.add_argument("file", metavar="FILE", help="CSV, JSON lines, either of them gzipped, Parquet, or a folder of Parquet")
    init.set_defaults(command=_init)
    return parser


if __name__ == "__main__":
    sys.exit(main())
