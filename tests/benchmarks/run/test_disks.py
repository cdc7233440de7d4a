"""A disk that is full or read-only, and records that are cut or too new: one line, exit code 2, and what was there stays."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drive_run import FAKE
from places import GRID, order

from benchmarks import store
from benchmarks.records import load_records, record_files
from benchmarks.run import command as run

CELLS = 5


def mounted(folder: Path, *options: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a quarter megabyte that a run writes to."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted(folder, "-o", "size=256k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    (tmp_path / "own.toml").write_text(GRID)
    (tmp_path / "did").write_text("")
    order(tmp_path)
    monkeypatch.chdir(tmp_path)

    def calling(*arguments: str, out: str = "disk/out", fail: str = "") -> int:
        order(tmp_path, fail=fail)
        return run.main(["--grid", "own.toml", "--out", out, "--cache-dir", str(tmp_path), "--no-report", "--quiet", *arguments], work=FAKE)

    return calling


def filled(disk: Path, *, but: int) -> None:
    """Leaves so many bytes of the disk."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"\0" * max(0, free - but))


@pytest.mark.parametrize("free_kib", [0, 4, 8, 16, 24, 40])
def test_a_disk_that_fills_ends_the_run_in_one_line_and_the_rest_follows_when_there_is_room(
    disk: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str], free_kib: int
) -> None:
    assert call("--select", "compression=recent") == 0
    (before,) = record_files(disk / "out")
    content = before.read_bytes()
    filled(disk, but=1024 * free_kib)
    assert call() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "No space left on device" in err
    assert str(disk / "out") in err or "disk/out" in err
    assert before.read_bytes() == content
    assert len(load_records(disk / "out")) < CELLS  # each of them whole
    assert {record.status for record in load_records(disk / "out")} == {"ok"}
    assert not list((disk / "out").rglob("*.tmp"))
    (disk / "filler").unlink()
    assert call() == 0
    assert len(load_records(disk / "out")) == CELLS
    assert before.read_bytes() == content


def test_a_disk_that_is_read_only_is_one_line(disk: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--select", "compression=recent") == 0
    digest = store.records_digest(disk / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for out in ("disk/out", "disk/other"):
        assert call(out=out) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert f"{out}: cannot be written: Read-only file system" in told.err
    assert store.records_digest(disk / "out") == digest
    assert [path.name for path in disk.iterdir()] == ["out"]


def test_a_cell_that_finds_the_disk_full_ends_the_run_and_is_no_record(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--select", "backbone=popularity", out="out") == 0
    assert call(out="out", fail="disk:full,disk:recent,disk:experts") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "in flops: [Errno 28] No space left on device: 'weights'" in err
    assert [record.cell.backbone for record in load_records(tmp_path / "out")] == ["popularity"]
    qualities = [line for line in (tmp_path / "did").read_text().splitlines() if line.startswith("quality")]
    assert len(set(qualities)) == len(qualities)  # none was tried again
    assert not (tmp_path / "out" / ".lock").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda whole: whole[: len(whole) // 2], "not a whole JSON file"),
        (lambda whole: json.dumps(json.loads(whole) | {"schema_version": 3}).encode(), "schema version 3"),
    ],
)
def test_a_bad_record_is_one_line_for_all_who_read_records_and_the_others_stay(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str], spoil: Callable[[bytes], bytes], says: str
) -> None:
    from benchmarks.gate import command as gate
    from benchmarks.report import command as report

    assert call(out="out") == 0
    bad, *others = record_files(tmp_path / "out")
    bad.write_bytes(spoil(bad.read_bytes()))
    before = [path.read_bytes() for path in (bad, *others)]
    capsys.readouterr()
    (tmp_path / "baseline.json").write_text("{}")
    commands = [
        lambda: report.main(["out", "--out", "page.html"]),
        lambda: gate.main(["out", "--baseline", "baseline.json", "--update"]),
    ]
    for command in commands:
        assert command() == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1
        assert bad.name in told.err
        assert says in told.err
    assert [path.read_bytes() for path in (bad, *others)] == before
    assert not (tmp_path / "page.html").exists()
    assert (tmp_path / "baseline.json").read_text() == "{}"
