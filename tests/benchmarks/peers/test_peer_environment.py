"""The peers' environment: refused where it is not there, made once, and nothing is left of one that could not be made."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import command, environment
from benchmarks.peers.environment import MARK, PYTHON, PeerEnvironmentError, environment_folder, interpreter, set_up
from benchmarks.peers.pins import PINS


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The steps of a setup, none of which is run; the first makes a folder."""
    taken: list[list[str]] = []

    def run(command_: list[str]) -> None:
        taken.append(command_)
        if "venv" in command_:
            Path(command_[-1], "bin").mkdir(parents=True)
            Path(command_[-1], PYTHON).write_text("")

    monkeypatch.setattr(environment, "_run", run)
    return taken


def test_the_environment_is_made_once_of_every_pin_and_no_other_package(tmp_path: Path, steps: list[list[str]]) -> None:
    folder = set_up(tmp_path)
    assert interpreter(tmp_path) == folder / PYTHON
    made, installed, checked = steps
    assert made == [sys.executable, "-m", "venv", str(folder)]
    assert installed[:4] == [str(folder / PYTHON), "-m", "pip", "install"]
    assert "--no-deps" in installed
    assert set(PINS) <= set(installed)
    assert checked[-1] == "check"
    assert set_up(tmp_path) == folder
    assert len(steps) == 3


def test_its_python_is_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[list[str]]) -> None:
    monkeypatch.chdir(tmp_path)
    set_up(Path("cache"))
    assert interpreter(Path("cache")) == environment_folder(tmp_path / "cache") / PYTHON


def test_what_a_stopped_setup_left_is_made_anew(tmp_path: Path, steps: list[list[str]]) -> None:
    rest = environment_folder(tmp_path) / "rest"
    rest.mkdir(parents=True)
    with pytest.raises(PeerEnvironmentError, match="no environment"):
        interpreter(tmp_path)
    set_up(tmp_path)
    assert not rest.exists()
    assert (environment_folder(tmp_path) / MARK).is_file()


def test_a_step_that_fails_leaves_nothing_and_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command_: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        Path(command_[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command_, 1, stderr="a line\nERROR: no such\npackage\n")

    monkeypatch.setattr(subprocess, "run", fail)
    assert command.main(["setup", "--cache-dir", str(tmp_path)]) == 2
    assert not environment_folder(tmp_path).exists()
    line = f"benchmarks.peers: peers: -m venv {environment_folder(tmp_path)} failed: a line ERROR: no such package\n"
    assert capsys.readouterr().err == line


def test_a_python_that_the_pins_do_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NEWEST_PYTHON", (3, 10))
    with pytest.raises(PeerEnvironmentError, match=r"Python 3\.\d+; expected at most 3\.10"):
        set_up(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_pins_are_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_folder(tmp_path)
    monkeypatch.setattr(environment, "PINS", (*PINS[:-1], "yarl==1.0.0"))
    assert environment_folder(tmp_path) != before


def test_our_versions_and_packages_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PIP_CONSTRAINT"):
        monkeypatch.setenv(name, "ours")
        assert name not in environment.surroundings()


def test_the_list_says_which_peers_there_are_and_whether_they_can_run(peers_cache: Path, tmp_path: Path, capsys) -> None:
    assert command.main(["list", "--cache-dir", str(peers_cache)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["rectools-sasrec", "rectools-hstu", "environment:"]
    assert lines[-1] == f"environment: {environment_folder(peers_cache)}"
    command.main(["list", "--cache-dir", str(tmp_path / "empty")])
    assert "make it with: python -m benchmarks.peers setup" in capsys.readouterr().out
