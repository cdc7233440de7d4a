"""Damaged models are trained anew, and folders that cannot be used end a run before it starts."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from drive_run import FAKE
from places import CELLS, MODELS, Call, done, of_kind, records

from benchmarks.records import record_files
from benchmarks.run import command as run

DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty weights": ("weights.safetensors", lambda content: b""),
    "truncated weights": ("weights.safetensors", lambda content: content[:-3]),
    "truncated facts": ("model.json", lambda content: content[:-3]),
}


@pytest.mark.parametrize(
    ("damage", "resume"),
    [
        ("empty weights", "missing"),
        ("truncated weights", "failed"),
        ("empty weights", "always"),
        ("truncated facts", "missing"),
    ],
)
def test_a_damaged_model_is_trained_anew_and_that_is_said(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str], damage: str, resume: str
) -> None:
    call()
    name, change = DAMAGES[damage]
    for path in (place / "out" / "models").glob(f"*/{name}"):
        path.write_bytes(change(path.read_bytes()))
    for path in record_files(place / "out"):
        path.unlink()
    done(place)
    capsys.readouterr()
    assert call("--resume", resume, "--workers", "2") == 0  # so that both cells of the elastic model may see it at once
    assert len(of_kind(done(place), "train")) == MODELS
    out = capsys.readouterr().out
    assert out.count("trained anew") == (MODELS if "weights" in damage else 1)
    assert "trying again" not in out
    assert {record.status for record in records(place)} == {"ok"}
    assert len(records(place)) == CELLS


@pytest.mark.slow
def test_a_model_with_cut_weights_is_trained_anew_by_the_real_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "own.toml").write_text("""
[defaults]
dataset_size = "tiny"
history = 12
recent = 4
width = 8
layers = 1
negatives = 16
[[sweep]]
backbone = "sasrec"
compression = "recent"
""")
    arguments = ["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", "--only", "quality"]
    assert run.main(arguments) == 0
    (weights,) = (place / "out" / "models").glob("*/weights.safetensors")
    whole = weights.read_bytes()
    (record,) = records(place)
    weights.write_bytes(whole[:-7])
    capsys.readouterr()
    assert run.main([*arguments, "--resume", "always"]) == 0
    assert "the model is trained anew" in capsys.readouterr().out
    assert weights.read_bytes() == whole
    assert records(place)[0].metrics == record.metrics


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a call that is refused."""
    assert run.main(["--grid", "own.toml", "--out", "out", "--no-report", *arguments], work=FAKE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_cache_that_is_a_file_is_refused_before_anything_starts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    for cache in ("own.toml", "own.toml/cache"):
        assert f"cache: {cache} cannot be written, " in refused(["--cache-dir", cache], capsys)
    assert sorted(place.rglob("*")) == before
    assert done(place) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written_is_refused_before_anything_starts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "protected").mkdir(mode=0o555)
    assert "cache: protected/cache cannot be written, " in refused(["--cache-dir", "protected/cache"], capsys)
    assert not (place / "out").exists()


def test_a_cache_that_cannot_be_written_after_all_is_refused_and_nothing_is_made(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that is full or read-only, which no look beforehand tells."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device; name another place with --cache-dir" in refused(["--cache-dir", "cache"], capsys)
    assert not (place / "out").exists()


def test_a_damaged_cache_is_refused_before_anything_starts(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call("--select", "backbone=popularity")
    (facts,) = place.glob("synthetic*/manifest.json")
    facts.write_text("{")
    capsys.readouterr()
    done(place)
    assert call("--out", "other") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "cannot be read as prepared data" in err
    assert not (place / "other").exists()


def test_a_file_that_is_missing_in_the_datasets_folder_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data" / "ml-1m").mkdir(parents=True)
    (place / "data" / "ml-1m" / "movies.dat").write_text("")
    before = sorted(place.rglob("*"))
    assert "ratings.dat" in refused(["--dataset", "ml-1m", "--data-dir", "data", "--cache-dir", "cache"], capsys)
    assert sorted(place.rglob("*")) == before
