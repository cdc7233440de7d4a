import re

import pytest
from fabricated_records import configured, fabricate, grid_cells, records_of

from benchmarks.analysis.origins import sources
from benchmarks.cell import Cell
from benchmarks.report.banner import banner, findings, limits
from benchmarks.report.names import in_order, name_all


def cell(compression: str = "experts", **settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": compression, "tokens": 4 if compression == "experts" else 0} | settings))  # type: ignore[arg-type]


def said(records):
    read = records_of(*records)
    among = in_order(configured(records))
    names = name_all(among)
    return banner(read, sources(read), among, names), limits(read, among, names)


@pytest.mark.parametrize(
    ("statuses", "tone", "word"),
    [
        (["ok", "ok"], "good", "Complete"),
        (["ok", "oom"], "warn", "Complete, with limits found"),
        (["ok", "unsupported"], "warn", "Complete, with limits found"),
        (["ok", "crash"], "bad", "Incomplete"),
        (["ok", "timeout"], "bad", "Incomplete"),
        (["ok", "invalid"], "bad", "Incomplete"),
        (["oom", "oom"], "bad", "Nothing measured"),
    ],
)
def test_the_word_follows_the_statuses(statuses, tone, word):
    found, _ = said([fabricate(cell(tokens=2**place), status=status) for place, status in enumerate(statuses)])
    assert (found.tone, found.word) == (tone, word)


def test_the_finding_is_about_a_configuration_with_a_control():
    cells = [cell(tokens=0), cell(tokens=1), cell(tokens=16, segments=2)]  # the best has no control of its own layout
    (found,) = findings(configured([fabricate(one) for one in cells]))
    assert found.startswith("HSTU · PerSRec, 1 token: 1 token reaches NDCG@10 0.")
    assert "Against the same layout without tokens: +" in found


def test_without_any_control_that_is_said():
    (found,) = findings(configured([fabricate(cell())]))
    assert "Against the same layout without tokens: unknown, no cell of this layout without tokens." in found


def test_the_finding_names_what_full_history_costs():
    cells = [cell(), cell("full", serving="recompute"), cell("full", serving="cache")]
    records = [fabricate(one) for one in cells]
    (found,) = findings(configured(records))
    flops = {record["cell"]["compression"] + record["cell"]["serving"]: record["metrics"]["serve_flops"]["value"] for record in records}
    share = 100 * flops["expertscache"] / flops["fullrecompute"]
    assert re.search(
        rf"4 tokens keep [0-9.]+% \([^)]+\) of full history's quality at {share:.1f}% of its compute per request; counting one", found
    )
    # 2 layers x (48 + 48) x 4 bytes a kept position
    assert "It keeps 3.00 KiB of a user; full history's KV cache keeps 168 KiB." in found


def test_a_better_model_of_the_recent_items_alone_is_not_hidden():
    records = [fabricate(cell()), fabricate(cell("recent"))]
    for metric in ("ndcg@10", "recall@10"):
        records[1]["metrics"][metric]["value"] += 0.5
        records[1]["replicates"]["means"][metric] = [value + 0.5 for value in records[1]["replicates"]["means"][metric]]
    (found,) = findings(configured(records))
    assert "A model trained on the recent items alone does better: \N{MINUS SIGN}0." in found


def test_tokens_that_do_not_help_are_not_sold():
    records = [fabricate(cell()), fabricate(cell(tokens=0))]
    records[1] |= {"metrics": records[0]["metrics"], "replicates": records[0]["replicates"]}
    (found,) = findings(configured(records))
    assert "+0.0000, without an interval (it is the same whichever users are drawn), so that the tokens help is not established." in found


def test_each_backbone_has_its_finding_the_best_first():
    found = findings(configured([fabricate(one) for one in grid_cells(histories=(64,))]))
    assert [text.split(" ")[0] for text in found] == ["HSTU", "SASRec"]


def test_limits_name_unfinished_training_and_noise():
    record = fabricate(cell(epochs=3))
    record["model"] |= {"epochs": 3, "best_epoch": 3}
    record["metrics"]["serve_latency_p50_ms"] |= {"low": 0.5, "high": 1.5, "value": 1.0}
    _, found = said([record])
    assert "1 of 1 configurations were at their best in the last epoch they were given; longer training may change their order." in found
    assert "Noisy: serve latency p50 ms spreads by over 10% in 1 of 1 configurations." in found
    assert any(text.startswith("One seed for every configuration") for text in found)


def test_training_that_stopped_by_itself_is_not_unfinished():
    record = fabricate(cell(epochs=9))
    record["model"] |= {"epochs": 3, "best_epoch": 3}
    _, found = said([record])
    assert not [text for text in found if "last epoch" in text]
