"""What the page on better tokens says stands in the committed records of the grid ``tokens``."""

import re
from pathlib import Path

import pytest

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import Estimate, difference, recovered, with_interval
from benchmarks.analysis.trained import models_of
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "better_tokens.md").read_text()
METRIC = "ndcg@10"
COUNTS = (0, 1, 2, 4, 8, 16)
HISTORY = 64
LOGS = ("synthetic", "online-retail")


def run(name: str) -> list[Configuration]:
    return configurations(load_records(PROJECT / "results" / name))


def elastic(every: list[Configuration], tokens: int, distillation: float) -> Configuration:
    """The point of an elastic model, which counts all that is kept where it counts."""
    wanted = ("experts", "elastic", tokens, distillation, HISTORY, "none")
    [one] = [
        one for one in every if (c := one.cell) and (c.compression, c.training, c.tokens, c.distillation, c.history, c.ablation) == wanted
    ]
    return one


def row(name: str, every: list[Configuration], tokens: int) -> str:
    plain, taught = (elastic(every, tokens, weight).quality(METRIC) for weight in (0.0, 1.0))
    return f"| {name} | {tokens} | {plain.value:.4f} | {taught.value:.4f} | {with_interval(difference(taught, plain), 'signed')} |"


def steps_of(every: list[Configuration], distillation: float) -> str:
    models = models_of(elastic(every, 4, distillation))
    assert len(models) == 3
    assert all(model.converged for model in models)
    return ", ".join(f"{model.steps:,}" for model in models)


@pytest.mark.parametrize("name", LOGS)
def test_what_full_attention_teaches_the_tokens_is_what_the_records_say(name: str) -> None:
    every = run(f"tokens-{name}-cpu")
    said = [line for line in PAGE.splitlines() if line.startswith(f"| {name} | ")]
    assert said == [row(name, every, tokens) for tokens in COUNTS]
    steps = f"{name}, {steps_of(every, 0.0)} plain and {steps_of(every, 1.0)} taught"
    assert steps in PAGE.replace("\n", " ")


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
