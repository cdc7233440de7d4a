import subprocess
import sys

import pytest

from persrec import names
from persrec.data import dataset, dataset_digest, load_dataset
from persrec.data.__main__ import main


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("PERSREC_DATA", raising=False)
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))


def test_list_names_every_dataset(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*names.datasets(), "FILE.toml"]
    assert all("needs " in line and "licence: " in line for line in lines[1:-1])
    assert "sizes: tiny, small, medium, rounds, titled, laps, tiny-laps, long" in lines[0]


def test_prepare_writes_the_cache_that_load_reads(capsys, tmp_path):
    assert main(["prepare", "synthetic", "--size", "tiny", "--cache-dir", str(tmp_path / "here")]) == 0
    out = capsys.readouterr().out
    assert dataset_digest("synthetic", size="tiny") in out
    assert "users              400" in out
    assert len(list((tmp_path / "here").iterdir())) == 1
    assert not (tmp_path / "cache").exists()


def test_describe_says_what_a_dataset_holds(capsys):
    assert main(["describe", "synthetic", "--size", "tiny"]) == 0
    out = capsys.readouterr().out
    for line in (
        "interactions       32,034",
        "items              288",
        "times unknown      0.0%",
        "seen items         kept",
        "categories         24",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required"),
        (["lst"], "lst"),
        (["prepare"], "NAME"),
        (["prepare", "synthetic", "--sorce", "x"], "--sorce"),
        (["prepare", "ml-2m", "--source", "."], "dataset: unknown 'ml-2m' (did you mean 'ml-32m'?); known: synthetic, ml-100k, ml-1m"),
        (["describe", "nothing"], "dataset: unknown 'nothing'"),
        (["prepare", "ml-1m"], "no --source"),
        (["prepare", "ml-1m", "--source", "/nowhere"], "/nowhere is not a folder"),
        (["prepare", "synthetic", "--size", "huge"], "size: unknown 'huge' of dataset 'synthetic'; known: tiny"),
        (["describe", "ml-1m"], "nothing prepared in"),
        (["describe", "ml-1m", "--size", "small"], "which has no sizes"),
        (["prepare", "synthetic", "--size", "tiny", "--cache-dir", "/dev/null/x"], "/dev/null/x"),
    ],
)
def test_a_bad_call_says_so_in_one_line_and_makes_nothing(capsys, tmp_path, argv, message):
    try:
        code = main(argv)
    except SystemExit as left:  # argparse
        code = left.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not (tmp_path / "cache").exists()


def test_no_torch_is_imported():
    code = "import sys, persrec.data.__main__, persrec.data.ceiling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "persrec.data", "describe", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_sizes_differ_and_the_default_is_small(tmp_path):
    digests = {size: dataset_digest("synthetic", size=size) for size in dataset("synthetic").sizes}
    assert len(set(digests.values())) == len(digests)
    assert dataset_digest("synthetic") == digests["small"]
    assert load_dataset("synthetic", size="tiny", cache_dir=tmp_path).digest == digests["tiny"]
