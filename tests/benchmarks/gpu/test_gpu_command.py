"""The command for a card that is lent for minutes: what it runs, for how long, and what it says; no card is needed."""

import sys
import time

import pytest

from benchmarks.gpu import command
from benchmarks.grids import load_grid
from benchmarks.grids.selection import select

DONE, BAD_INPUT, INCOMPLETE = 0, 2, 3


@pytest.fixture
def card(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "chosen_device", lambda device: device)
    monkeypatch.chdir(tmp_path)


def test_every_step_has_its_part_of_what_is_left_and_says_how_it_went(card, capsys):
    calls = []

    def call(arguments, seconds):
        calls.append((arguments, seconds))
        return command.ENDED_BY_US if "benchmarks.kernels" in arguments else ""

    assert command.main(["--minutes", "10"], call=call) == DONE
    assert calls[0][1] == pytest.approx(150, abs=1)
    assert calls[-1][1] == pytest.approx(600, abs=1)  # the others took no time
    out = capsys.readouterr().out
    assert "kernels: out of time, " in out
    assert "GPU tests: done, " in out


def test_a_step_that_fails_leaves_the_others_and_is_told(card, capsys):
    assert command.main([], call=lambda arguments, seconds: "exit code 1" if "pytest" in arguments else "") == INCOMPLETE
    assert "GPU tests: exit code 1" in capsys.readouterr().out


def test_shares_are_of_the_whole_and_each_selection_selects_something():
    assert sum(step.share for step in command.STEPS) == pytest.approx(1)
    for step in command.STEPS:
        if "--select" in step.arguments:
            grid = load_grid(step.arguments[step.arguments.index("--grid") + 1], device="cuda")
            assert select(grid.cells, step.arguments[step.arguments.index("--select") + 1], grid=grid.name)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "1e9"])
def test_a_time_that_is_none_is_refused(minutes, capsys):
    assert command.main(["--minutes", minutes], call=lambda arguments, seconds: "") == BAD_INPUT
    assert "--minutes: " in capsys.readouterr().err


def test_without_a_card_nothing_runs(monkeypatch, capsys):
    def none(device):
        raise ValueError("--device: cuda; this machine has none")

    monkeypatch.setattr(command, "chosen_device", none)
    assert command.main([], call=lambda arguments, seconds: pytest.fail("ran")) == BAD_INPUT
    assert "this machine has none" in capsys.readouterr().err
    assert command.main(["--list"]) == DONE
    assert "benchmarks.kernels --device cuda" in capsys.readouterr().out


def test_a_command_is_interrupted_when_its_time_is_up_and_killed_when_it_goes_on(monkeypatch):
    monkeypatch.setattr(command, "GRACE_S", 0.3)
    assert command.run_for([sys.executable, "-c", "pass"], 30) == ""
    assert command.run_for([sys.executable, "-c", "raise SystemExit(3)"], 30) == "exit code 3"
    began = time.monotonic()
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    for code in ("import time; time.sleep(60)", deaf):
        assert command.run_for([sys.executable, "-c", code], 1.0) == command.ENDED_BY_US
    assert time.monotonic() - began < 30


def test_without_what_the_tests_need_nothing_runs(card, monkeypatch, capsys):
    monkeypatch.setattr(command, "FOR_TESTS", ("pytest", "no_such_package"))
    assert command.main([], call=lambda arguments, seconds: pytest.fail("ran")) == BAD_INPUT
    assert "the GPU tests need no_such_package; pip install" in capsys.readouterr().err
