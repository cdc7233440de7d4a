"""``python -m persrec.checkpoints convert``: a checkpoint of the public code becomes ours. Exit codes as in `persrec.commandline`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from persrec.checkpoints.convert import convert
from persrec.commandline import DONE, Parser, guarded

PROGRAM = "python -m persrec.checkpoints"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    return guarded(PROGRAM, lambda: _convert(_parser().parse_args(argv)))


def _convert(arguments: argparse.Namespace) -> int:
    facts = convert(arguments.file, arguments.config, arguments.out)
    print(f"{arguments.out}: {facts['reference']['model']} of {arguments.file.name}")
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Checkpoints: convert.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="convert")
    command = commands.add_parser("convert", help="a checkpoint of the public PerSRec code becomes a folder of ours", allow_abbrev=False)
    command.add_argument("file", type=Path, metavar="FILE.pth", help="tensors by name, as torch.save wrote them")
    command.add_argument("--config", type=Path, required=True, metavar="CONFIG.json", help="settings under the public code's names")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet")
    return parser


if __name__ == "__main__":
    sys.exit(main())
