"""A run that is killed, interrupted, hung up on, or that loses its reader: whole records, no process left, and the next run goes on."""

import re
import signal
from pathlib import Path

from places import CELLS, LONG_S, Start, done, measured, records, wait_for

from tests.soak.kills import relatives


def test_a_killed_run_leaves_whole_records_and_no_process_and_the_next_one_finishes(place: Path, start: Start) -> None:
    running = start(seconds=0, most_qualities=2)  # the third one never comes to its end
    wait_for(lambda: len(list((place / "out" / "cells").glob("*.json"))) >= 2)
    wait_for(lambda: len(relatives(place)) >= 3)  # the run, its fork server, a cell
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not relatives(place))
    with_quality = sum(record.quality is not None for record in records(place))
    whole = sum(record.cost is not None or record.cell.is_floor for record in records(place))
    assert with_quality == 2
    assert whole < CELLS
    assert (place / "out" / ".lock").exists()
    done(place)
    again = start(seconds=0)
    out, err = again.communicate(timeout=LONG_S)
    assert (again.returncode, err) == (0, "")
    assert f"took over from process {running.pid}" in out
    assert (f"{whole} of {CELLS} cells done already" in out) == (whole > 0)
    assert len(measured(place)) == CELLS - with_quality
    assert len(records(place)) == CELLS
    assert not (place / "out" / ".lock").exists()


def test_a_second_run_is_refused_and_an_interrupted_one_ends_clean(place: Path, start: Start) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell puts in the background may ignore it
    try:
        running = start(seconds=900)
    finally:
        signal.signal(signal.SIGINT, handler)
    wait_for((place / "did").read_text)
    second = start(seconds=900)  # the orders are one file, and the first reads it too
    out, err = second.communicate(timeout=LONG_S)
    assert (second.returncode, out) == (2, "")
    assert re.search(rf"process {running.pid} on \S+ is writing to it", err)
    assert err.count("\n") == 1
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=LONG_S)
    assert running.returncode == 130
    assert "ended by SIGINT" in err
    assert "Traceback" not in err
    wait_for(lambda: not relatives(place))
    assert not (place / "out" / ".lock").exists()


def test_a_terminated_run_says_so(place: Path, start: Start) -> None:
    running = start(seconds=900)
    wait_for((place / "did").read_text)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=LONG_S)
    assert running.returncode == 143
    assert err.count("\n") == 1


def test_a_hangup_ends_a_run_unless_nohup_started_it(place: Path, start: Start) -> None:
    for before, code, seconds in ((signal.SIG_DFL, 129, 900), (signal.SIG_IGN, 0, 0.5)):
        handler = signal.signal(signal.SIGHUP, before)
        try:
            running = start(seconds=seconds)
        finally:
            signal.signal(signal.SIGHUP, handler)
        wait_for((place / "did").read_text)
        running.send_signal(signal.SIGHUP)
        running.communicate(timeout=LONG_S)
        assert running.returncode == code
        (place / "did").write_text("")


def test_a_reader_that_goes_away_does_not_end_the_sweep(place: Path, start: Start) -> None:
    with start(seconds=0) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 0
    assert len(records(place)) == CELLS
