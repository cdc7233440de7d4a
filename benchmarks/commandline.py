"""What the command lines share: exit codes, a parser that refuses in one line, and times as people read them."""

import argparse
import sys
from typing import NoReturn

DONE = 0
REGRESSION = 1
BAD_INPUT = 2
INCOMPLETE = 3
NOT_COMPARABLE = 4


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)}\n")


def refuse(program: str, error: Exception | str) -> int:
    """One line on the standard error, and the exit code of bad input."""
    sys.stderr.write(f"{program}: {one_line(str(error))}\n")
    return BAD_INPUT


def one_line(text: str) -> str:
    """``text`` without line breaks and without what would steer a terminal."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
