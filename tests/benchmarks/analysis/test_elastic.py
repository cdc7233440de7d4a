"""Elastic against separate models: which cells are a pair, and that the difference is elastic minus separate, user by user."""

import dataclasses
import math

import numpy as np
import pytest
from fabricated_records import configured, fabricate, records_of, slim, user_values, write

from benchmarks.analysis.configurations import configurations
from benchmarks.analysis.elastic import elastic_pairs
from benchmarks.cell import Cell
from benchmarks.report.names import name_all
from benchmarks.report.page import render_report
from benchmarks.report.tables.elastic import elastic_table

SHARED = {"backbone": "sasrec", "compression": "experts", "recent": 32}
LENGTHS, COUNTS = (64, 224), (0, 4)
ELASTIC = {"training": "elastic", "elastic_tokens": COUNTS, "elastic_history": LENGTHS}
POINTS = [{"history": history, "tokens": tokens} for history in LENGTHS for tokens in COUNTS]


def grid(*, seeds=(1,)):
    cells = [Cell(**SHARED, **point, seed=seed) for point in POINTS for seed in seeds]
    return cells + [dataclasses.replace(cell, **ELASTIC) for cell in cells]


def test_every_point_is_a_pair_whatever_its_model_was_trained_with():
    pairs = elastic_pairs(configured(map(fabricate, grid())))
    assert [(pair.elastic.cell.history, pair.elastic.cell.tokens) for pair in pairs] == [(64, 0), (64, 4), (224, 0), (224, 4)]
    for pair in pairs:
        assert pair.separate.cell == dataclasses.replace(pair.elastic.cell, training="separate", elastic_tokens=(), elastic_history=())


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.01}, {"history": 128}, {"tokens": 8}, {"backbone": "hstu"}, {"serving": "recompute"}, {"training": "none"}],
)
def test_cells_that_differ_in_more_are_no_pair(changes):
    separate = Cell(**SHARED, history=224, tokens=4)
    elastic = dataclasses.replace(separate, **ELASTIC)
    assert len(elastic_pairs(configured(map(fabricate, [separate, elastic])))) == 1
    assert elastic_pairs(configured(map(fabricate, [dataclasses.replace(separate, **changes), elastic]))) == []


@pytest.mark.parametrize("tokens", [0, 4])
def test_a_taught_models_point_is_a_pair_with_what_was_taught_too_or_has_no_tokens_to_teach(tokens):
    plain = Cell(**SHARED, history=224, tokens=tokens)
    elastic = dataclasses.replace(plain, **ELASTIC, distillation=1.0)
    assert len(elastic_pairs(configured(map(fabricate, [plain, elastic])))) == (tokens == 0)
    assert len(elastic_pairs(configured(map(fabricate, [dataclasses.replace(plain, distillation=1.0), elastic])))) == 1


def test_other_data_are_no_pair():
    separate = Cell(**SHARED, history=224, tokens=4)
    records = [fabricate(separate), fabricate(dataclasses.replace(separate, **ELASTIC), dataset_digest="e" * 64)]
    assert elastic_pairs(configured(records)) == []


def test_two_elastic_models_of_a_point_are_two_pairs_with_the_one_separate_model():
    separate = Cell(**SHARED, history=224, tokens=4)
    elastic = [dataclasses.replace(separate, **ELASTIC), dataclasses.replace(separate, training="elastic", elastic_tokens=COUNTS)]
    pairs = elastic_pairs(configured(map(fabricate, [separate, *elastic])))
    assert {pair.elastic.cell.elastic_history for pair in pairs} == {(), LENGTHS}
    assert len({pair.separate.key for pair in pairs}) == 1


def test_the_difference_is_elastic_minus_separate_over_the_same_users_and_seeds():
    cells = [cell for cell in grid(seeds=(1, 2)) if (cell.history, cell.tokens) == (64, 4)]
    (pair,) = elastic_pairs(configured(map(fabricate, cells)))
    found = pair.difference("ndcg@10")
    means = {
        training: [user_values(cell)["ndcg@10"].mean() for cell in cells if cell.training == training]
        for training in ("elastic", "separate")
    }
    assert math.isclose(found.value, np.mean(means["elastic"]) - np.mean(means["separate"]), abs_tol=1e-6)
    assert found.seeds == (1, 2)
    assert found.replicates.std() < pair.elastic.quality("ndcg@10").replicates.std()  # what makes a user hard cancels


def test_the_table_has_a_row_a_point_and_there_is_none_without_a_pair():
    among = configurations(records_of(*map(fabricate, grid())))
    table = elastic_table(among, name_all(among), key="elastic-1")
    assert [row.entries[0].text for row in table.rows] == [
        f"SASRec · {kind} · {history} + 32" for history in LENGTHS for kind in ("no token, elastic", "PerSRec, elastic, 4 tokens")
    ]
    for row, pair in zip(table.rows, elastic_pairs(among), strict=True):
        orders = [entry.order for entry in row.entries[1:]]
        for metric, (elastic, separate, gap) in zip(("ndcg@10", "recall@10"), (orders[:3], orders[3:]), strict=True):
            assert (elastic, separate) == (pair.elastic.quality(metric).value, pair.separate.quality(metric).value)
            assert math.isclose(gap, elastic - separate)
    alone = [one for one in among if one.cell.training == "elastic"]
    assert elastic_table(alone, name_all(alone), key="elastic-1") is None


def test_a_point_that_was_not_measured_says_why():
    separate = Cell(**SHARED, history=224, tokens=4)
    among = configured([fabricate(separate, status="oom"), fabricate(dataclasses.replace(separate, **ELASTIC))])
    (row,) = elastic_table(among, name_all(among), key="elastic-1").rows
    assert (row.entries[2].detail, row.entries[3].detail) == ("oom", "oom")


def test_the_report_shows_the_table_where_a_run_has_both(tmp_path):
    page = render_report(write(tmp_path / "run", [slim(fabricate(cell)) for cell in grid()]), tmp_path / "page.html").read_text()
    assert "Elastic against separate models" in page
    alone = [slim(fabricate(cell)) for cell in grid() if cell.training == "elastic"]
    assert "Elastic against separate models" not in render_report(write(tmp_path / "one", alone), tmp_path / "one.html").read_text()
