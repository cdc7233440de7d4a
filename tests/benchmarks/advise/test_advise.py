"""The command line of ``advise``: what it says, its JSON, its exit codes, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
from fabricated_records import fabricate, write

from benchmarks.advise.command import main
from benchmarks.advise.prices import read_prices
from benchmarks.cell import Cell

FULL = Cell(backbone="hstu", compression="full")
RECORDS = [
    fabricate(FULL),
    fabricate(Cell(backbone="hstu", compression="experts", tokens=0)),
    fabricate(Cell(backbone="hstu", compression="experts", tokens=16)),
]
FLEET = ["--users", "1000000", "--requests-per-second", "500", "--refreshes-per-day", "4"]
PRICES = '[machine]\nname = "eight"\ncores = 8\nmemory_gib = 32\nprice_per_hour = 0.4\ncurrency = "EUR"\n'


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / "run", RECORDS)


def test_what_fits_is_said_with_what_binds_how_sure_and_how_to_serve_it(run, capsys):
    assert main([str(run), "--max-latency-ms", "500", "--max-cache-kb", "640", "--min-retention", "0.5"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].startswith("One seed: intervals cover users alone")
    assert "HSTU · PerSRec, 16 tokens" in said
    assert said.count("<- binds") == said.count(". HSTU") == 3
    assert "unfavourable end" in said
    assert "load_weights(run / " in said
    assert "its model is not in" in said  # a fabricated record has no model behind it


def test_nothing_fits_is_exit_code_five_with_the_nearest_misses(run, capsys):
    assert main([str(run), "--max-latency-ms", "0.000001", "--top", "2"]) == 5
    said = capsys.readouterr().out
    assert "Nothing fits: none of 3" in said
    assert "misses by" in said
    assert "and 1 more (--top 3)" in said
    assert "load_weights" not in said


def test_a_fleet_is_said_with_every_assumption(run, tmp_path, capsys):
    (tmp_path / "prices.toml").write_text(PRICES)
    assert main([str(run), "--max-cache-kb", "640", *FLEET, "--prices", str(tmp_path / "prices.toml")]) == 0
    said = capsys.readouterr().out
    assert "EUR a month" in said
    assert "10.8 requests a refresh" in said
    assert said.partition("Assumed:\n")[2].count("\n- ") >= 7


def test_refreshes_that_outnumber_requests_are_not_rounded_away(run, tmp_path, capsys):
    fleet = ["--users", "1000000", "--requests-per-second", "5", "--refreshes-per-day", "4"]
    assert main([str(run), "--max-cache-kb", "640", *fleet]) == 0
    assert "0.108 requests per refresh." in capsys.readouterr().out


def test_requests_per_refresh_that_follow_are_not_rounded(run, tmp_path, capsys):
    fleet = ["--users", "100000", "--requests-per-second", "1.73", "--refreshes-per-day", "1"]
    assert main([str(run), *fleet, "--json", str(tmp_path / "answer.json")]) == 0
    assert "; 1.49 requests per refresh." in capsys.readouterr().out
    (answer,) = json.loads((tmp_path / "answer.json").read_text())["answers"]
    assert answer["budget"]["requests_per_refresh"] == pytest.approx(1.73 * 86400 / 100000)


def test_the_prices_of_the_page_are_a_file_of_prices(tmp_path):
    page = (Path(__file__).resolve().parents[3] / "docs" / "advise.md").read_text()
    (tmp_path / "prices.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    machine = read_prices(tmp_path / "prices.toml")
    assert (machine.cores, machine.memory_bytes, machine.currency) == (8, 32 * 2**30, "EUR")


def test_without_prices_the_machine_is_the_one_that_was_measured(run, capsys):
    assert main([str(run), *FLEET]) == 0
    said = capsys.readouterr().out
    assert "2 cores and 8.00 GiB (the one that was measured: AMD EPYC" in said
    assert "a month\n" not in said


def test_a_refresh_has_its_time_and_that_it_was_timed_in_batches(run, capsys):
    assert main([str(run), "--select", "tokens=16", *FLEET]) == 0
    said = capsys.readouterr().out
    batch = "one user's share of a batch of 32"
    assert re.search(rf"   a refresh of one user takes [0-9.]+ ms \({batch}\)\n", said)
    assert re.search(rf"a request takes [^,]* at the median[^,]*, a refresh of one user [^(]*(\([^)]*\) )?\({batch}\)\n", said)


def test_json_holds_the_same(run, tmp_path, capsys):
    arguments = [str(run), "--max-cache-kb", "640", "--min-ndcg", "0.001", *FLEET, "--json", str(tmp_path / "out.json")]
    assert main(arguments) == 0
    first = (tmp_path / "out.json").read_bytes()
    assert main(arguments) == 0
    assert (tmp_path / "out.json").read_bytes() == first
    (answer,) = json.loads(first)["answers"]
    assert {one["cell"]["compression"] for one in answer["fits"]} == {"full", "experts"}
    assert answer["counts"] == {"fits": 3, "misses": 0, "not_judged": 0}
    assert answer["fits"][0]["checks"]["cache"]["limit"] == 640 * 1024
    assert answer["serve"]["cell_key"] == answer["fits"][0]["cell_keys"][0]
    assert len(answer["fleet"]["configurations"]) == 3
    capsys.readouterr()


def test_select_narrows_the_answer_and_not_the_reference(run, capsys):
    assert main([str(run), "--min-retention", "0.5", "--select", "compression=experts"]) == 0
    said = capsys.readouterr().out
    assert "1. HSTU · no token" in said
    assert "HSTU · full history" not in said.partition("fewest FLOPs")[2]
    assert "The best full history is HSTU · full history" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: no such folder of results"),
        (["run", "--users", "5"], "--requests-per-second: missing"),
        (["run", *FLEET[:4]], "--refreshes-per-day: missing"),
        (["run", *FLEET, "--requests-per-refresh", "10"], "make 10.8; leave one"),
        (["run", *FLEET, "--prices", "prices.toml"], "prices.toml: Object missing required field `cores`"),
        (["run", *FLEET, "--prices", "typo.toml"], "unknown field `core`"),
        (["run", *FLEET, "--prices", "load.toml"], "machine.highest_load: 1.5"),
        (["run", *FLEET, "--prices", "none.toml"], "none.toml: No such file"),
        (["run", "--select", "tokens=5"], "tokens is one of: 0, 16"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    Path("prices.toml").write_text('[machine]\nname = "x"\n')
    Path("typo.toml").write_text(PRICES.replace("cores", "core"))
    Path("load.toml").write_text(PRICES + "highest_load = 1.5\n")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "bound",
    [
        ["--max-latency-ms", "0"], ["--max-latency-ms", "nan"], ["--top", "x"], ["--min-retention", "-1"],
        ["--requests-per-refresh", "9" * 400], ["--users", "9" * 400], ["--max-cache-kb", "1e306"], ["--max-latency-ms", "1e-300"],
    ],
)  # fmt: skip
def test_a_bound_that_is_none_is_exit_code_two(run, bound):
    with pytest.raises(SystemExit) as error:
        main([str(run), *bound])
    assert error.value.code == 2


def test_a_name_from_a_record_steers_no_terminal(tmp_path, capsys):
    hostile = fabricate(FULL)
    hostile["parts"]["backbone"] |= {"name": "own", "title": "own \x1b[2J\nname"}
    hostile["cell"]["backbone"] = "own"
    assert main([str(write(tmp_path / "run", [hostile]))]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "1. own  [2J name" in said


def test_nothing_to_choose_from_is_incomplete(tmp_path, capsys):
    results = write(tmp_path / "run", [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    assert main([str(results)]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_other_data_are_answered_apart(tmp_path, capsys):
    results = write(tmp_path / "run", [*RECORDS, fabricate(FULL, dataset_digest="e" * 64) | {"cell_key": "f" * 64}])
    assert main([str(results)]) == 0
    assert capsys.readouterr().out.count(": synthetic, cpu, float32\n") == 2
