from pathlib import Path

import pytest
from drive_run import FAKE
from places import GRID, Call, order

from benchmarks.run import command as run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid and orders for the stand-ins; what they did is in its file ``did``."""
    (tmp_path / "own.toml").write_text(GRID)
    (tmp_path / "did").write_text("")
    order(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place: Path) -> Call:
    """The command line in this process; ``fail`` is for the stand-ins."""

    def calling(*arguments: str, fail: str = "", **orders: float) -> int:
        order(place, fail=fail, **orders)
        return run.main(["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", *arguments], work=FAKE)

    return calling
