import dataclasses
import math
import re

import pytest
from fabricated_records import configured, fabricate, grid_cells, records_of

from benchmarks.analysis.origins import sources
from benchmarks.cell import Cell
from benchmarks.report.banner import banner, findings
from benchmarks.report.limits import limits
from benchmarks.report.names import in_order, name_all


def cell(compression: str = "experts", **settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": compression, "tokens": 4 if compression == "experts" else 0} | settings))  # type: ignore[arg-type]


def said(records):
    read = records_of(*records)
    among = in_order(configured(records))
    names = name_all(among)
    return banner(read, sources(read), among, names), limits(read, sources(read), among, names)


@pytest.mark.parametrize(
    ("statuses", "tone", "word"),
    [
        (["ok", "ok"], "good", "Measured"),
        (["ok", "oom"], "warn", "Measured, with limits found"),
        (["ok", "unsupported"], "warn", "Measured, with limits found"),
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
    assert found.startswith("HSTU · PerSRec, 1 token (one seed): 1 token reaches NDCG@10 0.")
    assert "Difference from the same layout without tokens: +" in found


def test_without_any_control_that_is_said():
    (found,) = findings(configured([fabricate(cell())]))
    assert "Difference from the same layout without tokens: unknown, no cell without tokens." in found


def test_the_finding_names_what_full_history_costs():
    cells = [cell(), cell("full", serving="recompute"), cell("full", serving="cache")]
    records = [fabricate(one) for one in cells]
    for record, (value, low, high) in zip(records, ((2.0, 1.0, 4.0), (9.0, 8.0, 10.0), (8.0, 4.0, 12.0)), strict=True):
        record["metrics"]["request_latency_p50_ms"] |= {"value": value, "low": low, "high": high}
        record["metrics"]["serve_latency_p50_ms"] |= {"value": value / 2, "low": low / 2, "high": high / 2}
    (found,) = findings(configured(records))
    flops = {record["cell"]["compression"] + record["cell"]["serving"]: record["metrics"]["serve_flops"]["value"] for record in records}
    alike, anew = (f"{100 * flops['expertscache'] / flops[other]:.1f}%" for other in ("fullcache", "fullrecompute"))
    # 2 / 8, and in logarithms: down by the root of (log 2)^2 + (log 1.5)^2, up by that of (log 2)^2 + (log 2)^2
    down, up = (math.exp(math.hypot(math.log(2), math.log(other))) for other in (1.5, 2))
    time = f"25.0% ({25 / down:.1f}% to {25 * up:.1f}%)"
    assert re.search(r"4 tokens keep [0-9.]+% \([^)]+\) of full history's quality on the same backbone\. A request costs ", found)
    assert (
        f"A request costs {alike} of the compute and {time} of the time of full attention served the same way, from its own cache. "
        f"For the backbone alone, the share of the time is {time}. Counting one refresh per request on both sides, a request costs "
        in found
    )
    recomputes = "Against full attention that recomputes the window at each request"
    assert f" {recomputes}, a request costs {anew} of the compute; counting one refresh per request, " in found
    # 2 layers x (48 + 48) x 4 bytes a kept position
    assert "The cache takes 3.00 KiB per user; full history's KV cache takes 168 KiB." in found


@pytest.mark.parametrize(
    ("refresh", "request_", "said"),
    [
        (120, 5, "114% of full attention's compute; it costs no more from 4 requests per refresh on"),
        (110, 5, "105% of full attention's compute; it costs no more from 2 requests per refresh on"),
        (104, 5, "99.1% of full attention's compute; it costs no more from 1 request per refresh on"),
        (90, 10, "90.9% of full attention's compute; it costs no more, however few requests share a refresh"),
        (90, 20, "100% of full attention's compute; it costs no more up to 1 request per refresh"),
        (120, 10, "118% of full attention's compute; it costs more, however many requests share a refresh"),
        (90, 12, "92.7% of full attention's compute; it costs no more up to 5 requests per refresh"),
    ],
)
def test_the_finding_counts_refreshes_of_both_sides(refresh, request_, said):
    ours, full = fabricate(cell()), fabricate(cell("full", serving="cache"))
    for record, costs in ((ours, (refresh, request_)), (full, (100, 10))):
        for phase, value in zip(("compress", "serve"), costs, strict=True):
            record["metrics"][f"{phase}_flops"]["value"] = value
    [found] = findings(configured([ours, full]))
    assert " of full attention served the same way, from its own cache. " in found
    assert f" Counting one refresh per request on both sides, a request costs {said}." in found


@pytest.mark.parametrize("single", [(0,), (1,), (0, 1)])
def test_time_is_not_quoted_where_either_side_was_timed_in_one_process(single):
    records = [fabricate(one) for one in (cell(), cell("full", serving="cache"))]
    (found,) = findings(configured(records))
    assert re.search(r" of the time of full attention .*\. For the backbone alone, the share of the time is [^)]+\)\.", found)
    for place in single:
        records[place]["cost"]["processes"] = 1
    (found,) = findings(configured(records))
    assert "of the compute of full attention served the same way" in found
    assert "of the time" not in found


def test_what_is_recomputed_at_each_request_is_held_against_full_attention_that_is_too():
    records = [fabricate(one) for one in (cell(serving="recompute"), cell("full", serving="cache"))]
    (found,) = findings(configured(records))
    assert "served the same way" not in found
    assert "KV cache" not in found
    records.append(fabricate(cell("full", serving="recompute")))
    records[2]["metrics"]["serve_flops"]["value"] = 2 * records[0]["metrics"]["serve_flops"]["value"]
    (found,) = findings(configured(records))
    assert "A request costs 50.0% of the compute and " in found
    assert "of full attention served the same way, recomputing the window at each request. " in found
    assert "its own cache" not in found


def test_the_limits_say_which_costs_are_drawn_anew():
    _, found = said([fabricate(cell())])
    [line] = [text for text in found if text.startswith("How sure a place on the frontier is comes from random draws.")]
    assert "Quality is drawn anew over users; a timed cost" in line


def test_what_is_served_by_appending_is_held_against_full_attention_that_appends():
    cells = [cell(serving="append"), cell("full", serving="cache"), cell("full", serving="append")]
    records = [fabricate(one) for one in cells]
    records[2]["metrics"]["serve_flops"]["value"] = 4 * records[0]["metrics"]["serve_flops"]["value"]
    (found,) = findings(configured(records))
    assert "A request costs 25.0% of the compute and " in found
    assert "served the same way, from its own cache, the new item alone. " in found
    assert "recomput" not in found


def test_a_better_model_of_the_recent_items_alone_is_not_hidden():
    records = [fabricate(cell()), fabricate(cell("recent"))]
    for metric in ("ndcg@10", "recall@10"):
        records[1]["metrics"][metric]["value"] += 0.5
        records[1]["replicates"]["means"][metric] = [value + 0.5 for value in records[1]["replicates"]["means"][metric]]
    (found,) = findings(configured(records))
    assert "Difference from HSTU · recent only, the best on validation without tokens: \N{MINUS SIGN}0." in found


def test_a_model_of_the_recent_items_that_is_not_the_reference_is_not_hidden_either():
    records = [fabricate(cell()), fabricate(cell("recent")), fabricate(cell(tokens=0))]
    records[1]["model"]["validation"] = 0.01
    for metric in ("ndcg@10", "recall@10"):
        records[1]["metrics"][metric]["value"] += 0.5
        records[1]["replicates"]["means"][metric] = [value + 0.5 for value in records[1]["replicates"]["means"][metric]]
    (found,) = findings(configured(records))
    assert "A model trained on the recent items alone scores higher: \N{MINUS SIGN}0." in found  # one seed: numbers, no verdict


def test_tokens_that_do_not_help_are_not_sold():
    records = [fabricate(cell()), fabricate(cell(tokens=0))]
    records[1] |= {"metrics": records[0]["metrics"], "replicates": records[0]["replicates"]}
    (found,) = findings(configured(records))
    reason = "There is no interval (it is the same whichever users are drawn)"
    assert f": +0.0000. {reason}, so it is not established that the tokens help." in found


def test_each_backbone_has_its_finding_the_best_first():
    found = findings(configured([fabricate(one) for one in grid_cells(histories=(64,))]))
    assert [text.split(" ")[0] for text in found] == ["HSTU", "SASRec"]


def test_limits_name_unfinished_training_and_noise():
    record = fabricate(cell())
    record["model"] |= {"converged": False}
    record["metrics"]["serve_latency_p50_ms"] |= {"low": 0.5, "high": 1.5, "value": 1.0}
    _, found = said([record])
    assert "1 of 1 trained models had not converged; longer training may change their order." in found
    assert "Noisy: serve latency p50 ms spreads by over 10% in 1 of 1 configurations." in found
    assert any(text.startswith("One seed for every configuration") for text in found)


def test_what_was_not_trained_is_one_sentence_a_backbone():
    layouts = [cell(), cell(tokens=0), cell("full"), cell(history=32, tokens=4)]
    _, found = said([fabricate(one) for one in layouts])
    [line] = [text for text in found if text.startswith("Each reference is the best on validation")]
    assert line.endswith(
        " Not trained for HSTU: no token (elastic), full history (elastic) and recent items alone; "
        "at some layouts no token (separate) and full history (separate)."
    )


def trio(seeds=(1,), **model):
    """PerSRec, its control and full history; what is given is of PerSRec's model."""
    records = [fabricate(dataclasses.replace(one, seed=seed)) for one in (cell(), cell(tokens=0), cell("full")) for seed in seeds]
    for record in records[: len(seeds)]:
        record["model"] |= model
    return records


def level(record, quality, *, spread=0.01):
    """Gives a record this quality, its replicates evenly around it."""
    for metric in ("ndcg@10", "recall@10"):
        record["metrics"][metric]["value"] = quality
        record["replicates"]["means"][metric] = [quality + spread * (draw / 250 - 1) for draw in range(501)]
    if record["model"]:
        record["model"]["validation"] = quality
    return record


def test_a_model_stopped_at_its_bound_is_said_first_and_nothing_is_complete():
    found, _ = said(trio(converged=False))
    assert found.first[0].startswith("1 of 3 trained models had not converged (HSTU · PerSRec, 4 tokens \N{DAGGER}):")
    assert (found.tone, found.word) == ("warn", "Not converged")
    assert found.findings[0].startswith(
        "Training is not equal (not converged), so this is no verdict. HSTU · PerSRec, 4 tokens \N{DAGGER} (one seed):"
    )


def test_steps_that_differ_are_said_beside_each_comparison():
    records = trio(seeds=(1, 2), steps=90)
    (found,) = findings(configured(records))
    assert "(one seed)" not in found
    assert "of full history's quality on the same backbone (90 against 100 steps)" in found
    assert "Difference from the same layout without tokens (90 against 100 steps): " in found
    (alike,) = findings(configured(trio(seeds=(1, 2))))
    assert "steps" not in alike


def test_many_models_that_had_not_converged_are_counted_and_not_listed():
    records = [fabricate(cell(tokens=2**place)) for place in range(6)]
    for record in records:
        record["model"]["converged"] = False
    found, _ = said(records)
    assert found.first[0].startswith("6 of 6 trained models had not converged (marked \N{DAGGER}):")


def test_records_that_do_not_say_whether_they_converged_say_so_first():
    records = trio()
    for record in records:
        del record["model"]["converged"]
    found, limited = said(records)
    assert found.first[0] == "The records do not say whether the trained models converged."
    assert (found.tone, found.word) == ("warn", "Measured, convergence not recorded")
    assert "The records do not say whether 3 of 3 trained models converged." in limited


def test_a_crash_is_worse_than_a_training_that_was_stopped():
    found, _ = said([*trio(converged=False), fabricate(cell(tokens=8), status="crash")])
    assert (found.tone, found.word) == ("bad", "Incomplete")
    assert "had not converged" in found.first[0]


def test_half_the_steps_are_said_before_the_finding():
    found, _ = said(trio(steps=50, converged=None))
    assert found.findings[0].startswith("Training is not equal (half the steps: 50 against 100 steps), so this is no verdict.")


def test_a_floor_above_every_model_is_said_first():
    records = [level(record, 0.16) for record in trio()]
    records.append(level(fabricate(Cell(backbone="frequency", compression="none", training="none")), 0.188))
    found, _ = said(records)
    floors = [sentence for sentence in found.first if "frequency" in sentence]
    assert floors == ["On this data frequency, which learns nothing (NDCG@10 0.1880), scores above every one of 3 trained models."]
    assert any("0.1600. Its difference from the floor is \N{MINUS SIGN}0.0280" in detail for detail in found.more)


def test_a_floor_above_some_models_names_them():
    ours, control, full = trio()
    records = [level(ours, 0.2), level(control, 0.1), level(full, 0.3)]
    records.append(level(fabricate(Cell(backbone="popularity", compression="none", training="none")), 0.15))
    found, _ = said(records)
    assert any("scores above 1 of 3 trained models." in sentence for sentence in found.first)
    assert any(detail.startswith("Models below it: HSTU · no token.") for detail in found.more)


def test_a_floor_below_all_models_is_not_mentioned():
    records = [*trio(), level(fabricate(Cell(backbone="popularity", compression="none", training="none")), 0.001)]
    found, _ = said(records)
    assert not [sentence for sentence in found.first if "learns nothing" in sentence]


def test_a_history_worth_nothing_is_said_first_and_no_share_of_it_is_quoted():
    ours, control, full = trio()
    found, _ = said([level(ours, 0.3, spread=0.02), level(control, 0.2), level(full, 0.2001, spread=0.02)])
    assert found.first[0] == (
        "On this data the long history is worth nothing that we can measure, on HSTU. It is no verdict, as there is only one seed."
    )
    assert found.more[0].startswith("NDCG@10: HSTU 0.2001")
    (finding,) = found.findings
    assert "of full history's quality" not in finding
    assert "recover " not in finding
    assert "4 tokens reach NDCG@10 0.3000" in finding


@pytest.mark.parametrize(
    ("weights", "whose"),
    [((1.0, 1.0), "The expert tokens"), ((1.0, 0.0), "The expert tokens of 1 of 2 configurations"), ((0.0, 0.0), None)],
)
def test_that_tokens_were_taught_is_said_first(weights, whose):
    tokens = [fabricate(cell(tokens=4 * place, distillation=weight)) for place, weight in enumerate(weights, start=1)]
    found, _ = said([*tokens, fabricate(cell("full")), fabricate(cell(tokens=0, distillation=1.0))])
    expected = [] if whose is None else [f"{whose} were taught by full attention of the same weights. Nothing else had a teacher."]
    assert [sentence for sentence in found.first if "taught" in sentence] == expected
    assert bool([detail for detail in found.more if "the method and the teacher together" in detail]) == (whose is not None)


def test_taught_tokens_of_one_backbone_are_named():
    found, _ = said([fabricate(cell(backbone=name, distillation=float(name == "hstu"))) for name in ("hstu", "sasrec")])
    assert found.first[0].startswith("The expert tokens of HSTU were taught by full attention of the same weights")


def test_one_seed_gives_no_verdict():
    found, _ = said([*trio()])
    assert found.first[-1] == "One seed: no verdict."
    assert found.more[-1].startswith("An interval of one seed covers its users alone")


def test_several_seeds_have_no_sentence_on_one():
    found, _ = said(trio(seeds=(1, 2, 3)))
    assert not [sentence for sentence in found.first if "One seed" in sentence]


def test_what_is_spoken_of_is_chosen_on_validation_and_quoted_on_test():
    flattered, chosen, control = (fabricate(cell(tokens=tokens)) for tokens in (2, 4, 0))
    level(flattered, 0.5)["model"]["validation"] = 0.1
    level(chosen, 0.3)["model"]["validation"] = 0.2
    (found,) = findings(configured([flattered, chosen, control]))
    assert found.startswith("HSTU · PerSRec, 4 tokens (one seed): 4 tokens reach NDCG@10 0.3000")
