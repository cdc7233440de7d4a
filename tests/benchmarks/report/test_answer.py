"""The answer in words: sentences that can be repeated, how sure they are, and plain words where there is no choice."""

import dataclasses
import re

import pytest
from fabricated_records import configured, fabricate, grid_cells

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS
from benchmarks.analysis.frontier import COSTS, frontier
from benchmarks.cell import Cell
from benchmarks.report.answer import answer_of, short_answers
from benchmarks.report.names import in_order
from benchmarks.report.peers import peers_of

BASE = {"backbone": "hstu", "dataset_size": "small", "history": 224, "recent": 32}
FULL, CONTROL, OURS = (Cell(**BASE, compression=name, tokens=tokens) for name, tokens in (("full", 0), ("experts", 0), ("experts", 4)))
NO_CHOICE = "No model is chosen: popularity, which learns nothing, scores above every trained model of ours ("


def answered(*records):
    parts = []
    for peers in peers_of(in_order(configured(records))):
        among = peers.configurations
        frontiers = {cost: {metric: frontier(among, cost=cost, metric=metric) for metric in QUALITY_METRICS} for cost in COSTS}
        parts.append(answer_of(peers, frontiers))
    return parts


def grid(seeds=(1,), **ours):
    records = [fabricate(dataclasses.replace(cell, seed=seed)) for cell in (FULL, CONTROL, OURS) for seed in seeds]
    for record in records[-len(seeds) :]:
        record["model"] |= ours
    return records


def test_a_choice_is_a_sentence_with_quality_compute_time_and_bytes():
    records = grid()
    [part] = answered(*records)
    [card] = part.cards
    assert card.heading == "Balanced, smallest and best"
    full, _, ours = (record["metrics"] for record in records)
    compute = text.percent(ours["serve_flops"]["value"] / full["serve_flops"]["value"])
    assert card.said.startswith("HSTU · PerSRec, 4 tokens keeps ")
    assert f"of the best full attention's quality. A request costs {compute} of the compute and " in card.said
    share = r"[0-9.]+% \([0-9.]+% to [0-9.]+%\)"
    assert re.search(
        f"{share} of the time of full attention served the same way, from its own cache\\. "
        f"For the backbone alone, the share of the time is {share}\\. The cache takes ",
        card.said,
    )
    stored = [text.nbytes(metrics["cache_bytes"]["value"]) for metrics in (ours, full)]
    trained = text.percent(ours["train_flops"]["value"] / full["train_flops"]["value"])
    assert card.said.endswith(
        f"). The cache takes {stored[0]} per user instead of {stored[1]}. "
        f"In training, a sequence takes {trained} of full attention's compute."
    )
    assert part.lead.startswith(
        "The choices were made on validation; their numbers are from test. "
        "They are compared with HSTU · full history, KV cache, the best full attention: NDCG@10 "
    )
    assert part.drawing is not None
    assert "balanced, smallest and best: 4 tok" in str(part.drawing.image.svg)


def test_a_card_names_its_percentiles_and_that_a_refresh_was_timed_in_batches():
    records = grid()
    [part] = answered(*records)
    facts, ours = dict(part.cards[0].facts), records[-1]["metrics"]
    for name, metric in (
        ("time of a whole request, median", "request_latency_p50_ms"),
        ("the same, 95th percentile", "request_latency_p95_ms"),
        ("the backbone alone, timed by itself, median", "serve_latency_p50_ms"),
    ):
        of_processes = metric.endswith("_p50_ms")
        ends = " to ".join(text.milliseconds(ours[metric][end]) for end in ("low", "high")).replace(" ms to", " to") if of_processes else ""
        assert facts[name] == text.milliseconds(ours[metric]["value"]) + (f" ({ends})" if ends else "")
    refresh = facts["time of a refresh, one user's share of a batch of 32"]
    assert refresh == text.milliseconds(1000 / ours["compress_users_per_second"]["value"])


@pytest.mark.parametrize(
    ("seeds", "ours", "expected"),
    [
        ((1,), {}, "One seed: the interval covers its users alone. Another training may give a value outside it."),
        ((1, 2, 3), {}, "3 seeds: the 95% interval covers users and trainings."),
        ((1, 2, 3), {"converged": False}, "Not sure: training was not equal (not converged), so this is no verdict."),
    ],
)
def test_how_sure_it_is_stands_beside_it(seeds, ours, expected):
    [part] = answered(*grid(seeds, **ours))
    assert part.cards[0].sure.startswith(expected)


def test_time_that_cannot_be_compared_is_said_and_not_quoted():
    records = grid()
    records[0]["cost"]["processes"] = 1
    [card] = answered(*records)[0].cards
    assert "of the time" not in card.said
    assert card.sure.endswith("Time is not compared: not timed in several processes on both sides.")


@pytest.mark.parametrize(
    ("seeds", "start", "end"),
    [
        ((1, 2, 3), "There is no frontier on this data: ", "So keep nothing of it and serve the recent items alone."),
        ((1,), "No model is chosen: ", "It is no verdict, as there is only one seed."),
        ((1, 2), "No model is chosen: ", "It is no verdict, as there are only two seeds."),
    ],
)
def test_a_history_that_is_worth_nothing_is_one_plain_sentence_and_a_verdict_over_seeds(seeds, start, end):
    records = grid(seeds)
    for place, record in enumerate(records):
        spread = (0.004, 0.001, 0.002)[place // len(seeds)]
        record["metrics"]["ndcg@10"]["value"] = 0.2
        record["replicates"]["means"]["ndcg@10"] = [0.2 + spread * (-1) ** draw for draw in range(501)]
    line, rivals = short_answers(answered(*records))
    assert line.startswith(start + "reading the long history gains HSTU nothing that can be measured")
    assert "(NDCG@10 0.2000 with it and 0.2000 without)" in line
    assert line.endswith(end)
    assert rivals.startswith("This run does not show whether PerSRec is better than pooling, memory or the like: no rival ")


def test_a_backbone_of_one_seed_takes_no_verdict_from_one_of_three():
    sasrec = [fabricate(dataclasses.replace(cell, backbone="sasrec", seed=1)) for cell in (FULL, CONTROL, OURS)]
    hstu = grid((1, 2, 3))
    spreads = [*(spread for spread in (0.004, 0.001, 0.002) for _ in range(3)), 0.004, 0.001, 0.002]
    for record, spread in zip([*hstu, *sasrec], spreads, strict=True):
        record["metrics"]["ndcg@10"]["value"] = 0.2
        record["replicates"]["means"]["ndcg@10"] = [0.2 + spread * (-1) ** draw for draw in range(501)]
    line, *_ = short_answers(answered(*hstu, *sasrec))
    assert ", and SASRec nothing either. It is no verdict for SASRec, as there is only one seed." in line


@pytest.mark.parametrize(("gain", "said"), [(0.02, True), (0.0, False)])
def test_tokens_that_rank_above_no_token_are_not_sent_away_with_full_attention(gain, said):
    records = grid()
    for record, (quality, spread) in zip(records, ((0.2, 0.004), (0.2, 0.001), (0.2 + gain, 0.002)), strict=True):
        record["metrics"]["ndcg@10"]["value"] = quality
        record["replicates"]["means"]["ndcg@10"] = [quality + spread * (-1) ** (draw // 2) for draw in range(501)]
    line, *_ = short_answers(answered(*records))
    gains = "Yet one of 1 configurations that keep part of it scores above no token: HSTU \N{MIDDLE DOT} PerSRec, 4 tokens: +0.0200 ("
    assert (gains in line) == said
    assert line.endswith(", one seed, no verdict.") == said
    assert "It is no verdict, as there is only one seed." in line


@pytest.mark.parametrize(
    ("seeds", "stopped", "said", "end"),
    [
        (
            (1, 2, 3),
            None,
            "There is no frontier on this data: popularity, which learns nothing, ranks better than every trained model of ours",
            "So no model here is worth its cost.",
        ),
        ((1,), None, NO_CHOICE, "It is no verdict, as there is only one seed."),
        ((1, 2), None, NO_CHOICE, "It is no verdict, as there are only two seeds."),
        ((1,), False, NO_CHOICE, "It is no verdict, as there is only one seed."),
        ((1, 2, 3), False, NO_CHOICE, "It is no verdict, as longer training may lift them."),
    ],
)
def test_a_floor_above_all_models_is_the_answer_and_a_verdict_over_three_seeds_alone(seeds, stopped, said, end):
    floor = fabricate(Cell(**{**BASE, "backbone": "popularity"}, compression="none", training="none"))
    floor["metrics"]["ndcg@10"]["value"] = 0.9
    floor["replicates"]["means"]["ndcg@10"] = [mean**2 + 0.5 for mean in floor["replicates"]["means"]["ndcg@10"]]
    [part] = answered(*grid(seeds, **({} if stopped is None else {"converged": stopped})), floor)
    assert part.cards == ()
    assert part.lead.startswith(said), part.lead
    assert part.lead.endswith(end), part.lead
    assert "(NDCG@10 0.9000 against " in part.lead
    assert ("So no model here is worth its cost" in part.lead) == (len(seeds) == 3 and stopped is None)
    assert (f"; {len(seeds)} of {3 * len(seeds)} models had not converged)" in part.lead) == (stopped is False)


def test_without_costs_nothing_is_chosen_for_its_cost():
    records = grid()
    for record in records:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if "@" in name or name == "mrr"}
    [part] = answered(*records)
    assert [card.heading for card in part.cards] == ["Best"]
    assert "Costs were not measured beside full attention's, so nothing is chosen for what it costs." in part.lead


def test_what_recomputes_as_full_attention_does_keeps_as_much_and_no_cost_is_known_by_that():
    retrieval = dataclasses.replace(OURS, compression="retrieval", serving="recompute")
    records = [fabricate(cell) for cell in (dataclasses.replace(FULL, serving="recompute"), CONTROL, retrieval)]
    for record in records:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if "@" in name or name == "mrr"}
    [part] = answered(*records)
    assert [card.heading for card in part.cards] == ["Best"]


def test_costs_alone_answer_with_costs_and_a_small_share_is_not_zero():
    cells = [
        dataclasses.replace(cell, training="none", history=16128) for cell in (FULL, dataclasses.replace(FULL, serving="recompute"), OURS)
    ]
    records = [fabricate(cell, replicates=None) for cell in cells]
    for record in records:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if "@" not in name and name != "mrr"}
    [part] = answered(*records)
    assert part.lead.startswith("This run measured costs alone")
    [card] = part.cards
    share = 100 * records[2]["metrics"]["serve_flops"]["value"] / records[1]["metrics"]["serve_flops"]["value"]
    assert 0 < share < 0.1
    assert card.said.startswith("HSTU · PerSRec, 4 tokens, a window of 16,160 items. A request costs ")  # served alike first
    recomputed = "Against full attention that recomputes the window at each request, it takes"
    assert card.said.endswith(f"{recomputed} {text.significant(share, 2)}% of the compute.")
    assert card.sure.startswith("It was not trained: its costs are known, its quality is not.")


def test_several_groups_of_peers_are_answered_each():
    other = [fabricate(dataclasses.replace(cell, dataset="ml-1m")) for cell in (FULL, CONTROL, OURS)]
    lines = short_answers(answered(*grid(), *other))
    assert len({line.partition(":")[0] for line in lines}) == 2


def test_a_grid_has_three_roles_and_at_most_three_cards():
    [part] = answered(*(fabricate(cell) for cell in grid_cells(histories=(64,))))
    assert 1 <= len(part.cards) <= 3
    assert sorted(" ".join(part.roles.values()).replace(",", "").replace("and ", "").split()) == ["balanced", "best", "smallest"]
