import copy

import numpy as np
import pytest
from fabricated_records import fabricate, records_of, write

from benchmarks.cell import Cell
from benchmarks.report.command import main
from benchmarks.report.tables.versus import versus_table

RECORDS = [fabricate(Cell(backbone="hstu", compression="experts", tokens=tokens, seed=seed)) for tokens in (0, 4, 8) for seed in (1, 2)]


def test_two_configurations_are_paired_over_users():
    table = versus_table(records_of(*RECORDS), "tokens=4", "tokens=0", name="run")
    one, other = ([record for record in RECORDS if record["cell"]["tokens"] == tokens] for tokens in (4, 0))
    for row in table.rows:
        metric, first, second, gap, ratio = row.entries
        values = [np.mean([record["metrics"][metric.text]["value"] for record in side]) for side in (one, other)]
        assert (first.order, second.order) == pytest.approx(values)
        assert gap.order == pytest.approx(values[0] - values[1])
        assert ratio.order == pytest.approx(values[0] / values[1])
        assert gap.detail  # its interval
    assert "First: HSTU · PerSRec, 4 tokens, seeds 1 and 2, 100 steps; second: HSTU · no token, seeds 1 and 2, 100 steps;" in table.caption


@pytest.mark.parametrize(("seeds", "over"), [((1, 2), "users and seeds"), ((1,), "users of one seed")])
def test_what_the_intervals_are_over_is_said(seeds, over):
    records = [record for record in RECORDS if record["cell"]["seed"] in seeds]
    table = versus_table(records_of(*records), "tokens=4", "tokens=0", name="run")
    assert table.caption.endswith(f"paired, 95% intervals over {over}")
    if len(seeds) == 1:
        assert {row.entries[3].tone for row in table.rows} == {""}


def test_half_the_steps_are_no_comparison():
    records = copy.deepcopy([record for record in RECORDS if record["cell"]["tokens"] in (0, 4)])
    for record in records:
        if record["cell"]["tokens"] == 0:
            record["model"] |= {"steps": 40, "converged": None}
    table = versus_table(records_of(*records), "tokens=4", "tokens=0", name="run")
    assert "100 steps; second:" in table.caption
    for row in table.rows:
        assert row.entries[3].text.endswith("\N{DOUBLE DAGGER}")
        assert "half the steps: 100 against 40 steps" in row.entries[3].detail


def test_a_configuration_against_itself_differs_by_exactly_nothing():
    for row in versus_table(records_of(*RECORDS), "tokens=4", "tokens=4", name="run").rows:
        assert row.entries[3].order == 0.0
        assert row.entries[4].order == 1.0


def test_a_share_of_nothing_is_told_of_the_second_and_not_of_full_history():
    first, second = (copy.deepcopy(record) for record in (RECORDS[2], RECORDS[0]))
    for metric in ("ndcg@10", "recall@10"):
        second["metrics"][metric]["value"] = 0.0
    for row in versus_table(records_of(first, second), "tokens=4", "tokens=0", name="run").rows:
        assert (row.entries[4].text, row.entries[4].order) == ("undefined", None)
        assert row.entries[4].detail.startswith("the second's quality, 0.0000")


def test_the_command_prints_and_renders_nothing(tmp_path, capsys):
    results = write(tmp_path / "run", RECORDS)
    assert main([str(results), "--compare", "tokens=4", "tokens=0"]) == 0
    out = capsys.readouterr().out
    assert "| ndcg@10 |" in out
    assert sorted(path.name for path in results.iterdir()) == ["cells"]


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("tokens=0|4", "finds 2 configurations, expected one"),
        ("tokens=5", "no cell of"),
        ("token=4", "unknown setting"),
        ("x", "not setting=value"),
    ],
)
def test_an_expression_that_does_not_find_one_is_refused(tmp_path, capsys, expression, part):
    results = write(tmp_path / "run", RECORDS)
    assert main([str(results), "--compare", expression, "tokens=0"]) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "--select" not in err
    assert err.count("\n") == 1
