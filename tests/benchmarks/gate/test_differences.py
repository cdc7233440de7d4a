"""What tokens carry: the differences that a baseline shows to matter, and that they gate on any machine."""

from pathlib import Path

import pytest
from gated_run import INCOMPLETE, PASS, REGRESSION, GatedRun, record

from benchmarks.cell import Cell
from benchmarks.gate.baseline import load_baseline
from benchmarks.gate.differences import differences

PROJECT = Path(__file__).resolve().parents[3]


def test_differences_are_of_what_the_baseline_shows_to_matter() -> None:
    shared = {"backbone": "hstu", "compression": "experts"}
    cells = {
        "persrec": Cell(**shared, tokens=4),
        "no token": Cell(**shared, tokens=0),
        "other user": Cell(**shared, tokens=4, ablation="other_user"),
        "random tokens": Cell(**shared, tokens=4, ablation="random_tokens"),
        "pooling": Cell(backbone="hstu", compression="pooling", tokens=4),
    }
    then = dict(zip(cells, (0.60, 0.38, 0.25, 0.24, 0.41), strict=True))
    assert [(one.key, one.of, one.is_lost) for one in differences(cells, then, then)] == [
        ("persrec", "no token", False), ("persrec", "another user's cache", False), ("persrec", "random tokens", False),
    ]  # fmt: skip
    alike = dict.fromkeys(cells, 0.3)
    assert differences(cells, alike, alike) == []
    assert all(one.is_lost for one in differences(cells, then, alike))
    (missing, *_) = differences(cells, then, {})
    assert missing.now is None
    assert "no number now" in missing.reason()


@pytest.mark.parametrize(("own", "kept"), [({"serving": "append"}, {}), ({"cache_dtype": "int8"}, {"cache_dtype": "int8"})])
def test_a_cell_that_is_served_otherwise_is_held_against_controls_of_the_cache(own: dict[str, str], kept: dict[str, str]) -> None:
    shared = {"backbone": "hstu", "compression": "experts"}
    cells = {
        "persrec": Cell(**shared, tokens=4, **own),
        "no token": Cell(**shared, tokens=0),
        "other user": Cell(**shared, tokens=4, ablation="other_user", **kept),
    }
    then = dict(zip(cells, (0.60, 0.38, 0.25), strict=True))
    assert [(one.key, one.of) for one in differences(cells, then, then)] == [("persrec", "no token"), ("persrec", "another user's cache")]


def test_the_committed_baseline_gates_tokens_that_matter() -> None:
    baseline = load_baseline(PROJECT / "results" / "baselines" / "smoke-cpu.json")
    cells = {key: entry.cell for key, entry in baseline.entries.items()}
    then = baseline.qualities("ndcg@10")
    assert {one.of for one in differences(cells, then, then)} == {"no token", "another user's cache", "random tokens"}


def test_a_model_that_cannot_serve_a_control_is_held_against_the_others() -> None:
    shared = {"backbone": "hstu", "compression": "experts", "serving": "cache"}
    for own in ({"training": "elastic", "elastic_tokens": (2, 4), "tokens": 4}, {"plan": "100:2+224:2", "segments": 2, "tokens": 4}):
        cells = {"persrec": Cell(**shared, **own), "random": Cell(**shared, **own, ablation="random_tokens")}
        found = differences(cells, {"persrec": 0.4, "random": 0.1}, {"persrec": 0.4, "random": 0.1})
        assert [one.of for one in found] == ["random tokens"]


def test_what_tokens_carry_is_gated_on_a_gpu_too(tmp_path: Path) -> None:
    place = GatedRun(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    for tokens in (0, 4):
        place.add(record(tokens, device="cuda"))
    place.scale(0, ndcg_at_10=0.5, recall_at_10=0.5)
    place.gate("--update")
    place.scale(0, ndcg_at_10=0.9, recall_at_10=0.9)
    place.scale(4, ndcg_at_10=0.9, recall_at_10=0.9)  # another card rounds otherwise; what the tokens add stays
    assert place.findings() == (PASS, [])
    place.change(0, lambda values: values["metrics"].pop("ndcg@10"))
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, "ndcg@10")])
    place.add(record(0, device="cuda"))
    place.scale(0, ndcg_at_10=0.45, recall_at_10=0.45)
    place.scale(4, ndcg_at_10=0.5, recall_at_10=0.5)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "ndcg@10")])
