"""``python -m persrec.checkpoints convert``: a checkpoint of the public code becomes ours. Exit code 2 is bad usage or input."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from persrec.checkpoints.convert import convert

BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line, and the exit code is 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {_one_line(message)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        facts = convert(arguments.file, arguments.config, arguments.out)
    except (ValueError, OSError) as error:
        print(f"python -m persrec.checkpoints: {_one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    print(f"{arguments.out}: {facts['reference']['model']} of {arguments.file.name}")
    return 0


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m persrec.checkpoints", description="Checkpoints: convert.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="convert")
    command = commands.add_parser("convert", help="a checkpoint of the public PerSRec code becomes a folder of ours", allow_abbrev=False)
    command.add_argument("file", type=Path, metavar="FILE.pth", help="tensors by name, as torch.save wrote them")
    command.add_argument("--config", type=Path, required=True, metavar="CONFIG.json", help="settings under the public code's names")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet")
    return parser


if __name__ == "__main__":
    sys.exit(main())
