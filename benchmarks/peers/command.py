"""The peers and their environment: ``python -m benchmarks.peers setup`` makes it, ``list`` says what there is.

The environment holds RecTools and an older numpy, so it is none of ours. It is installed from the packages that pip finds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.environment import PeerEnvironmentError, interpreter, set_up
from benchmarks.peers.part import PEERS
from persrec.commandline import DONE, Parser, duration, guarded

PROGRAM = "benchmarks.peers"
_MIB = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Models of other libraries that a run measures beside ours, and the environment they need.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (("list", "the peers, and where their environment is"), ("setup", "make the environment, once")):
        action = actions.add_parser(name, help=text)
        action.add_argument("--cache-dir", type=Path, metavar="DIR", help="default: $PERSREC_CACHE, then ~/.cache/persrec")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.action == "list":
        return _list(options.cache_dir)
    start = time.monotonic()
    folder = set_up(options.cache_dir)
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    print(f"{folder}: {size // _MIB:,} MiB, in {duration(time.monotonic() - start)}")
    return DONE


def _list(cache_dir: Path | None) -> int:
    for part in PEERS.values():
        print(f"{part.name:16} {part.title}, {part.package} {part.version}, beside our {part.counterpart}")
    try:
        print(f"environment: {interpreter(cache_dir).parents[1]}")
    except PeerEnvironmentError as error:
        print(f"environment: {str(error).removeprefix('peers: ')}")
    return DONE
