"""No folder of one machine in a record."""

import json
import re
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from benchmarks.environment import provenance
from benchmarks.environment.portable import PROJECT, portable_argv, without_paths


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--grid", "smoke", "--out", "results/mine"], ["--grid", "smoke", "--out", "results/mine"]),
        (["--data-dir", "data", "--cache-dir=../cache"], ["--data-dir", "data", "--cache-dir=../cache"]),
        (["--data-dir", "/home/bob/data"], ["--data-dir", "$PERSREC_DATA"]),
        (["--data-dir=/home/bob/data"], ["--data-dir=$PERSREC_DATA"]),
        (["--data", "/home/bob/data", "--cach=/home/bob"], ["--data", "$PERSREC_DATA", "--cach=$PERSREC_CACHE"]),
        (["--cache-dir", "/home/bob/cache"], ["--cache-dir", "$PERSREC_CACHE"]),
        (["--out", "/home/bob/results/mine"], ["--out", "mine"]),
        (["--out=/home/bob/results/mine/"], ["--out=mine"]),
        (["--grid", "/home/bob/own.toml", "--baseline=/home/bob/b.json"], ["--grid", "own.toml", "--baseline=b.json"]),
        (["/usr/bin/python", "-m", "benchmarks.gate", "/home/bob/results/mine"], ["python", "-m", "benchmarks.gate", "mine"]),
        (["--select", "plan=100:2+180:4,tokens=0|4", "--quiet"], ["--select", "plan=100:2+180:4,tokens=0|4", "--quiet"]),
    ],
)
def test_an_absolute_path_on_a_command_line_is_kept_by_what_it_is(given: list[str], kept: list[str]) -> None:
    assert portable_argv(given) == kept
    assert provenance(argv=given)["argv"] == kept


def test_known_folders_are_replaced_by_their_names(tmp_path: Path) -> None:
    out, data, cache = (tmp_path / name for name in ("runs/mine", "data", "data/cache"))
    places = {"out": out, "data_dir": data, "cache_dir": cache}

    def shown(text: str) -> str:
        return without_paths(text, **places)

    assert shown(f"{out}/cells/a.json: cannot be written") == "mine/cells/a.json: cannot be written"
    assert shown(f"{data}/ml-1m: no such folder, nor '{cache}'") == "$PERSREC_DATA/ml-1m: no such folder, nor '$PERSREC_CACHE'"
    assert shown(f'File "{PROJECT}/benchmarks/cell.py", line 1, in {PROJECT}') == 'File "benchmarks/cell.py", line 1, in .'
    assert shown(f"{json.__file__} {msgspec.__file__}") == f"python3.{_minor()}/json/__init__.py site-packages/msgspec/__init__.py"
    assert shown(f"{tempfile.gettempdir()}/x and {Path.home()}/y") == "$TMPDIR/x and ~/y"
    assert shown("nothing of a path: 3/4, and/or") == "nothing of a path: 3/4, and/or"


def _minor() -> str:
    match = re.search(r"python3\.(\d+)", json.__file__)
    assert match is not None
    return match[1]


def test_a_folder_whose_name_only_starts_alike_is_another(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    for other in ("mine2", "mine-too", "mine.old"):
        assert without_paths(f"{tmp_path}/{other}: full", out=out).endswith(f"/{other}: full")
    for end in ("", ".", ". Then", ":", "'", ")", "\n"):
        assert without_paths(f"{out}{end}", out=out) == f"mine{end}"


def test_the_folders_of_a_dataset_file_and_of_this_python_are_known(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "events.toml"
    assert without_paths(f"{file}: no such file", dataset_file=str(file)) == "events.toml: no such file"
    python = Path(sys.executable)
    assert without_paths(f"of binary: {python}") == f"of binary: {python.parent.name}/{python.name}"


def test_what_was_given_relative_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"{tmp_path}/results/mine/raw: full; {tmp_path}/data: empty"
    assert without_paths(text, out="results/mine", data_dir="data") == "results/mine/raw: full; data: empty"


def test_folders_of_the_surroundings_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSREC_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "c"))
    assert without_paths(f"{tmp_path}/d/a {tmp_path}/c/b") == "$PERSREC_DATA/a $PERSREC_CACHE/b"


def test_a_link_and_what_it_leads_to_are_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert without_paths(f"{tmp_path}/real/a {tmp_path}/link/b", out=tmp_path / "link") == "link/a link/b"
