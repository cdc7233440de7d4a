"""What the command lines share: exit codes, a parser that refuses in one line, one guard at every ``main``. Imports no torch."""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DONE = 0
REGRESSION = 1
BAD_INPUT = 2
INCOMPLETE = 3
NOT_COMPARABLE = 4
NOTHING_FITS = 5
UNFORESEEN = 70
INTERRUPTED = 130  # 128 + SIGINT
_MOST_DIGITS = 18  # of a whole number: what any option means fits 64 bits


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)}\n")


def whole(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes a whole number, in digits alone, from ``least`` to ``most``."""
    expected = f"a whole number from {least}" + (f" to {most:,}" if most is not None else "")

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}")
        return number

    return parse


def guarded(program: str, function: Callable[[], int]) -> int:
    """The exit code of ``function``; whatever it raises becomes one line on the standard error and a documented exit code.

    A reader that goes away (``| head``) stops nothing: what is printed after that is dropped, and the exit code stays that of
    ``function``. `SystemExit`, which argparse raises, passes.

    Args:
        program: what the line begins with, such as ``python -m persrec.data``.
        function: the command.

    Returns:
        `BAD_INPUT` for a ValueError, for an OSError, for a standard output that takes nothing and for input nested too deep;
        `INTERRUPTED` for Ctrl-C; `UNFORESEEN` for every other error, whose traceback is written to a file that the line names.
    """
    code = None
    try:
        with _deaf_streams():
            code = _run(program, function)
    except OSError as error:  # a standard stream that takes nothing, as on a full disk, says so when it is closed
        if code in (None, DONE):
            return refuse(program, f"the standard output cannot be written: {error.strerror or error}")
    return BAD_INPUT if code is None else code


def _run(program: str, function: Callable[[], int]) -> int:
    try:
        return function()
    except KeyboardInterrupt:
        _write_line(program, "interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: Python's own exit code would be 1, a regression
        return _exit_code(program, error)


def refuse(program: str, error: Exception | str) -> int:
    """One line on the standard error, and the exit code of bad input."""
    _write_line(program, _message(error))
    return BAD_INPUT


def one_line(text: str) -> str:
    """``text`` without line breaks and without what would steer a terminal."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes, remainder = divmod(total, 60)
    return f"{minutes} min {remainder:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _exit_code(program: str, error: Exception) -> int:
    if isinstance(error, RecursionError):
        return refuse(program, "the input is nested too deep to be read")
    # a ConnectionError is about another process of ours, not about a file that the user named
    if isinstance(error, (ValueError, OSError)) and not isinstance(error, ConnectionError):
        return refuse(program, error)
    return _report_unforeseen(program, error)


def _message(error: Exception | str) -> str:
    """What an error says; the file first where it knows one."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _report_unforeseen(program: str, error: Exception) -> int:
    text = "".join(traceback.format_exception(error))
    message = f"an unforeseen error, {type(error).__name__}: {_message(error)}"
    try:
        descriptor, path = tempfile.mkstemp(prefix="persrec-traceback-", suffix=".txt")
        os.close(descriptor)
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:  # nowhere to write it: better on the terminal than lost
        _write_line(program, message)
        _write(text)
    else:
        _write_line(program, f"{message}; its traceback is in {path}")
    return UNFORESEEN


def _write_line(program: str, message: str) -> None:
    _write(f"{program}: {one_line(message)}\n")


def _write(text: str) -> None:
    if sys.stderr is not None:  # Python has none where the descriptor is closed
        with contextlib.suppress(OSError):  # a full disk takes no message about itself
            sys.stderr.write(text)
            sys.stderr.flush()


class _DeafFile(io.FileIO):
    """A stream's file that takes what is written to it, whether somebody reads it or not."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """As `io.FileIO.write`; once the reader is gone, everything goes to the null device."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null_device = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null_device, self.fileno())
            os.close(null_device)
            return memoryview(data).nbytes


@contextlib.contextmanager
def _deaf_streams() -> Iterator[None]:
    """The standard streams, which no absent reader and no character without an encoding can break; those of a test stay."""
    with contextlib.ExitStack() as stack:
        if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(_deaf_stream(sys.__stdout__))))
        if sys.__stderr__ is not None and sys.stderr is sys.__stderr__:
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(_deaf_stream(sys.__stderr__))))
        yield


def _deaf_stream(stream: TextIO) -> TextIO:
    """The same descriptor under a `_DeafFile`; it is closed, and so flushed, while the descriptor stays open."""
    with contextlib.suppress(BrokenPipeError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_DeafFile(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream is sys.__stderr__ or stream.isatty(),
    )
