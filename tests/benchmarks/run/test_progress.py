import io
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.cell import Cell
from benchmarks.records import Metric, Record, Status
from benchmarks.run import progress
from benchmarks.run.progress import CellDone, PlainDisplay, QuietDisplay, TerminalDisplay, display, shown_metrics

DONE = CellDone(number=3, total=14, status="ok", label="hstu/full [bold]", details="4.2 s", seconds_left=61)


def test_a_plain_line_counts_and_tells_the_time_left() -> None:
    stream = io.StringIO()
    shown = PlainDisplay(stream)
    shown.note("before")
    shown.working(0, "hstu: training")
    shown.training("hstu: epoch 1")
    shown.finished(DONE)
    shown.close()
    assert stream.getvalue() == "before\nhstu: epoch 1\n[ 3/14] ok          hstu/full [bold]  4.2 s  1 min 01 s left\n"


def test_where_no_cell_ends_a_plain_line_tells_how_far_all_is_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost takes several processes, spread over the sweep: the first cell may end when two thirds of the time are gone."""
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    shown = PlainDisplay(stream)
    for now, left in ((110, 9), (131, 8), (150, 7), (162, 1), (200, 0)):
        shown.to_go(left, 60.0 * left)
    assert stream.getvalue() == "8 tasks to go  8 min 00 s left\n1 task to go  1 min 00 s left\n"
    shown.finished(DONE)
    shown.to_go(3, 1.0)  # the cell's line has just told it
    assert stream.getvalue().count("to go") == 2


def test_the_terminal_shows_the_same_and_takes_no_text_for_markup() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, highlight=False)
    shown = TerminalDisplay(console, total=14, workers=2)
    shown.to_go(5, 125)
    shown.note("a [note]")
    shown.working(1, "hstu/full [bold]: epoch 1")
    shown.finished(DONE)
    shown.close()
    text = stream.getvalue()
    for part in ("a [note]", "hstu/full [bold]", "3 of 14 cells", "1 min 01 s left", "2 min 05 s left"):
        assert part in text


def test_what_is_not_a_terminal_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(display(total=1, workers=1, quiet=False), PlainDisplay)
    quiet = display(total=1, workers=1, quiet=True)
    quiet.note("nothing")
    quiet.finished(DONE)
    assert type(quiet) is QuietDisplay
    assert capsys.readouterr().out == ""


def test_a_line_has_room_for_quality_and_cost() -> None:
    metrics = {"ndcg@10": Metric(value=0.12345), "serve_flops": Metric(value=1_234_000)}
    record = Record(cell_key="", status=Status.OK, cell=Cell(backbone="hstu", compression="full"), metrics=metrics)
    assert shown_metrics(record) == "ndcg@10 0.1235  serve 1.23 MFLOP"
    assert shown_metrics(replace(record, metrics={"ndcg@10": Metric(value=None)})) == ""
