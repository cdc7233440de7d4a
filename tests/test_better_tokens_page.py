"""What the page on better tokens says stands in the committed records of the grid ``tokens``."""

import re
from pathlib import Path

import pytest

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import Estimate, difference, recovered, with_interval
from benchmarks.analysis.trained import models_of, own_validation
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "better_tokens.md").read_text()
METRIC = "ndcg@10"
COUNTS = (0, 1, 2, 4, 8, 16)
HISTORY = 64
LOGS = ("synthetic", "online-retail")


def run(name: str) -> list[Configuration]:
    return configurations(load_records(PROJECT / "results" / name))


def elastic(
    every: list[Configuration], tokens: int, distillation: float, backbone: str = "hstu", patience: int | None = None
) -> Configuration:
    """The point of an elastic model, which counts all that is kept where it counts."""
    wanted = (backbone, "experts", "elastic", tokens, distillation, HISTORY, "none")
    found = [
        one
        for one in every
        if (c := one.cell) and (c.backbone, c.compression, c.training, c.tokens, c.distillation, c.history, c.ablation) == wanted
    ]
    [one] = [one for one in found if patience in (None, one.cell.patience)]
    return one


def row(name: str, every: list[Configuration], tokens: int) -> str:
    plain, taught = (elastic(every, tokens, weight).quality(METRIC) for weight in (0.0, 1.0))
    return f"| {name} | {tokens} | {plain.value:.4f} | {taught.value:.4f} | {with_interval(difference(taught, plain), 'signed')} |"


def steps_of(every: list[Configuration], distillation: float, backbone: str = "hstu") -> str:
    models = models_of(elastic(every, 4, distillation, backbone))
    assert len(models) == (3 if backbone in ("hstu", "sasrec") else 1)
    assert all(model.converged for model in models)
    return ", ".join(f"{model.steps:,}" for model in models)


@pytest.mark.parametrize("name", LOGS)
def test_what_full_attention_teaches_the_tokens_is_what_the_records_say(name: str) -> None:
    every = run(f"tokens-{name}-cpu")
    said = [line for line in PAGE.splitlines() if line.startswith(f"| {name} | ")]
    assert said == [row(name, every, tokens) for tokens in COUNTS]
    steps = f"{name}, {steps_of(every, 0.0)} plain and {steps_of(every, 1.0)} taught"
    assert steps in PAGE.replace("\n", " ")


OTHERS = {"SASRec": ("sasrec", 3), "Llama": ("llama", 1), "HLLM": ("hllm", 1)}


def test_what_a_teacher_does_with_other_backbones_is_what_the_records_say() -> None:
    every, rows, steps = run("tokens-synthetic-cpu"), [], []
    for name, (backbone, seeds) in OTHERS.items():
        for tokens in (0, 4, 16):
            plain, taught = (elastic(every, tokens, weight, backbone) for weight in (0.0, 1.0))
            assert len(models_of(plain)) == len(models_of(taught)) == seeds
            gap = with_interval(difference(taught.quality(METRIC), plain.quality(METRIC)), "signed")
            figures = [own_validation(plain), own_validation(taught), plain.quality(METRIC).value, taught.quality(METRIC).value]
            shown = " | ".join(f"{figure:.4f}" for figure in figures if figure is not None)
            rows.append(f"| {name} | {seeds} | {tokens} | {shown} | {gap} |")
        steps.append(f"{name}, {steps_of(every, 0.0, backbone)} plain and {steps_of(every, 1.0, backbone)} taught")
    assert [line for line in PAGE.splitlines() if re.match(r"\| (SASRec|Llama|HLLM) \|", line)] == rows
    assert "; ".join(steps) in PAGE.replace("\n", " ")
    spread = {}
    for name, of in (("llama", "full"), ("hllm", "hllm")):
        by_seed = elastic(run(f"{of}-synthetic-cpu"), 16, 0.0, name, patience=3).quality(METRIC).by_seed
        assert len(by_seed) == 3
        spread[name] = f"{min(by_seed):.4f} to {max(by_seed):.4f}"
    said = (
        "three plain ones of `full`, which reach {llama} with 16 tokens: its",
        "three plain models with this patience end as far apart, at {hllm}. Whether",
    )
    assert all(part.format(**spread) in PAGE.replace("\n", " ") for part in said)


PLAIN = {
    "expert_start": "learnt", "expert_learning_rate": None, "expert_weight": 0.0, "random_cuts": False, "moving_windows": True,
    "recent_weight": 4.0, "negatives": 480, "segments": 1,
}  # fmt: skip


def own(every: list[Configuration], distillation: float) -> Configuration:
    """The model that was trained for 4 tokens alone, plain but for its teacher."""
    wanted = ("hstu", "experts", "separate", 4, distillation)
    [one] = [
        one
        for one in every
        if (c := one.cell) and (c.backbone, c.compression, c.training, c.tokens, c.distillation) == wanted
        if all(getattr(c, name) == value for name, value in PLAIN.items())
    ]
    return one


def test_what_a_teacher_gives_a_model_of_its_own_is_what_the_records_say() -> None:
    every = run("tokens-synthetic-cpu")
    sides = {"elastic": [elastic(every, 4, weight) for weight in (0.0, 1.0)], "its own": [own(every, weight) for weight in (0.0, 1.0)]}
    rows = []
    for name, (plain, taught) in sides.items():
        assert len(models_of(plain)) == len(models_of(taught)) == 3
        assert all(model.converged for one in (plain, taught) for model in models_of(one))
        shown = " | ".join(f"{one.quality(METRIC).value:.4f}" for one in (plain, taught))
        rows.append(f"| {name} | {shown} | {with_interval(difference(taught.quality(METRIC), plain.quality(METRIC)), 'signed')} |")
    assert [line for line in PAGE.splitlines() if re.match(r"\| (elastic|its own) \|", line)] == rows
    gain = with_interval(difference(own(every, 0.0).quality(METRIC), elastic(every, 4, 1.0).quality(METRIC)), "signed")
    assert f"a plain model of its own lies {gain} above" in PAGE.replace("\n", " ")
    steps = [", ".join(f"{model.steps:,}" for model in models_of(own(every, weight))) for weight in (0.0, 1.0)]
    assert "Steps by seed: {} plain and {} taught".format(*steps) in PAGE.replace("\n", " ")


def test_what_more_steps_alone_give_is_what_the_records_say() -> None:
    """One seed: plain and taught, and both for longer."""
    short, long = run("tokens-synthetic-cpu"), run("twice-synthetic-cpu")
    rows = []
    for name, every, weight, patience in (
        ("plain", short, 0.0, None), ("plain, longer", long, 0.0, 15), ("taught", short, 1.0, None), ("taught, longer", long, 1.0, 16),
    ):  # fmt: skip
        points = [elastic(every, tokens, weight, patience=patience) for tokens in (0, 1, 4, 16)]
        found = [next(record for record in one.measured if record.cell.seed == 1) for one in points]
        assert all(record.model is not None and record.model.converged for record in found)
        [steps] = {record.model.steps for record in found if record.model is not None}
        rows.append(f"| {name} | {steps:,} | {' | '.join(f'{record.value(METRIC):.4f}' for record in found)} |")
    assert [line for line in PAGE.splitlines() if re.match(r"\| (plain|taught)", line)] == rows


def test_what_the_second_loss_alone_gives_is_what_the_records_say() -> None:
    every = run("tokens-synthetic-cpu")
    rows = []
    for tokens in COUNTS:
        plain, along, taught = (elastic(every, tokens, weight).quality(METRIC) for weight in (0.0, 0.001, 1.0))
        differences = (with_interval(difference(*pair), "signed") for pair in ((along, plain), (taught, along)))
        rows.append(f"| {tokens} | {along.value:.4f} | {' | '.join(differences)} |")
    assert [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)] == rows
    assert f"{steps_of(every, 0.001)} with the second loss alone" in PAGE.replace("\n", " ")


def test_what_a_taught_step_costs_is_what_the_records_say() -> None:
    every = run("tokens-synthetic-cpu")
    for tokens in (4, 16):
        plain, taught = (elastic(every, tokens, weight).cost("train_flops").value for weight in (0.0, 1.0))
        assert plain is not None
        assert taught is not None
        assert f"takes {taught / plain:.1f} times the FLOPs, of 4 tokens and of 16" in PAGE


def test_the_share_that_is_recovered_is_what_the_records_say() -> None:
    full = run("full-synthetic-cpu")
    [whole] = [one for one in full if point(one) == ("hstu", "full", "cache")]
    [alone] = [one for one in full if point(one) == ("hstu", "recent", "cache")]
    every = run("tokens-synthetic-cpu")
    shares = [share(elastic(every, tokens, weight), alone, whole) for weight in (0.0, 1.0) for tokens in (4, 16)]
    said = "4 tokens recover {2:.1%} in place of {0:.1%}, 16 tokens {3:.1%} in place of {1:.1%}"
    assert said.format(*shares) in PAGE.replace("\n", " ")


def point(one: Configuration) -> tuple[str, str, str]:
    """Which model, where it is served from its own whole history as computed; else nothing."""
    cell = one.cell
    plain = (cell.history, cell.ablation, cell.staleness, cell.cache_dtype) == (HISTORY, "none", 0, "float32")
    return (cell.backbone, cell.compression, cell.serving) if plain else ("", "", "")


def share(one: Configuration, alone: Configuration, whole: Configuration) -> float:
    estimate: Estimate = recovered(*(each.quality(METRIC) for each in (one, alone, whole)))
    assert estimate.value is not None
    return estimate.value
