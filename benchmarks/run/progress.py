"""What a person sees of a sweep: moving bars on a terminal, one plain line a cell in a pipe."""

import sys
import time
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from benchmarks.records import Record, Status
from benchmarks.text import amount, flops
from persrec.commandline import duration

EVERY = 30.0  # seconds between two lines on the progress of a sweep
STATUS_COLOURS = {Status.OK: "green", Status.OOM: "yellow", Status.UNSUPPORTED: "yellow"}


@dataclass(slots=True)
class Pace:
    """How long things take: a first guess until something was measured."""

    guess: float
    taken: list[float] = field(default_factory=list)

    def mean(self) -> float:
        """Seconds a piece."""
        return sum(self.taken) / len(self.taken) if self.taken else self.guess


@dataclass(frozen=True, kw_only=True, slots=True)
class CellDone:
    """One finished cell, as the display shows it."""

    number: int
    total: int
    status: Status
    label: str
    details: str
    seconds_left: float

    def line(self) -> str:
        """The plain line."""
        width = len(str(self.total))
        ending = "done" if self.number == self.total else f"{duration(self.seconds_left)} left"
        return f"[{self.number:{width}}/{self.total}] {self.status:11} {self.label}  {self.details}  {ending}"


class Display(Protocol):
    """What shows a sweep while it runs."""

    def note(self, text: str) -> None:
        """A line about the sweep as a whole."""

    def working(self, slot: int, text: str) -> None:
        """What the worker ``slot`` is doing."""

    def training(self, text: str) -> None:
        """How far the training of a model is."""

    def finished(self, done: CellDone) -> None:
        """A cell has its record."""

    def to_go(self, count: int, seconds_left: float) -> None:
        """How many processes have yet to end; a shape's cost takes several, spread over the sweep, so cells may end late."""

    def close(self) -> None:
        """No more cells will come."""


class QuietDisplay:
    """Shows nothing."""

    def note(self, text: str) -> None: ...  # noqa: D102

    def working(self, slot: int, text: str) -> None: ...  # noqa: D102

    def training(self, text: str) -> None: ...  # noqa: D102

    def finished(self, done: CellDone) -> None: ...  # noqa: D102

    def to_go(self, count: int, seconds_left: float) -> None: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


class PlainDisplay(QuietDisplay):
    """A line for each cell, and for each epoch or 30 seconds of a training; where no cell ends, a line on the sweep every 30 seconds.

    A reader that has gone away ends nothing: the command's streams see to that (`persrec.commandline.guarded`).
    """

    def __init__(self, stream: TextIO) -> None:
        """Writes to ``stream``."""
        self._stream = stream
        self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        """A line about the sweep as a whole."""
        self._write(text)

    def training(self, text: str) -> None:
        """A training's line."""
        self._write(text)

    def finished(self, done: CellDone) -> None:
        """The cell's line."""
        self._last_line = time.monotonic()
        self._write(done.line())

    def to_go(self, count: int, seconds_left: float) -> None:
        """A line, unless there was one a moment ago."""
        if count and time.monotonic() - self._last_line >= EVERY:
            self._last_line = time.monotonic()
            self._write(f"{amount(count, 'task')} to go  {duration(seconds_left)} left")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class TerminalDisplay:
    """A bar for the grid and a line for each worker; finished cells scroll by above them."""

    def __init__(self, console: Console, *, total: int, workers: int) -> None:
        """Starts to draw, twice a second: cells need the cores."""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10),
            TimeElapsedColumn(table_column=Column(min_width=7)),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=14)),
            console=console,
            refresh_per_second=2,
            transient=True,
        )
        self._grid = self._progress.add_task(f"0 of {total} cells", total=total, left="")
        self._slots: list[TaskID] = [self._progress.add_task("", total=None, left="", visible=False) for _ in range(workers)]
        self._subjects: dict[int, str] = {}
        self._progress.start()

    def note(self, text: str) -> None:
        """A line about the sweep as a whole."""
        self._progress.console.print(escape(text))

    def working(self, slot: int, text: str) -> None:
        """What the worker ``slot`` is doing; its clock starts anew with every cell, not with every phase.

        Jobs in a cluster's queue have no lines, since there may be hundreds of them.
        """
        if slot >= len(self._slots):
            return
        task, subject = self._slots[slot], text.partition(":")[0]
        if self._subjects.get(slot) != subject:
            self._progress.reset(task)
        self._subjects[slot] = subject
        self._progress.update(task, description=escape(text), visible=bool(text))

    def training(self, text: str) -> None:
        """Nothing: the worker's own line says it."""

    def finished(self, done: CellDone) -> None:
        """The cell's line, and the grid's bar."""
        colour = STATUS_COLOURS.get(done.status, "red")
        self._progress.console.print(f"[{colour}]{done.status:11}[/] {escape(done.label)}  {escape(done.details)}")
        self._progress.update(
            self._grid,
            completed=done.number,
            description=f"{done.number} of {done.total} cells",
            left=f"{duration(done.seconds_left)} left",
        )

    def to_go(self, count: int, seconds_left: float) -> None:
        """The time left, beside the grid's bar."""
        self._progress.update(self._grid, left=f"{duration(seconds_left)} left" if count else "")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._progress.stop()


def display(*, total: int, workers: int, quiet: bool) -> Display:
    """The display that fits the standard output."""
    if quiet:
        return QuietDisplay()
    console = Console(highlight=False)
    if console.is_terminal and total:
        return TerminalDisplay(console, total=total, workers=workers)
    return PlainDisplay(sys.stdout)


def shown_metrics(record: Record) -> str:
    """The two numbers a line has room for."""
    quality, cost = record.value("ndcg@10"), record.value("serve_flops")
    parts = [] if quality is None else [f"ndcg@10 {quality:.4f}"]
    return "  ".join([*parts, *([] if cost is None else [f"serve {flops(cost)}"])])
