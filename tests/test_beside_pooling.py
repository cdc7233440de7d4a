"""What the page on better tokens says of models for 4 tokens beside four means stands in the committed records of three runs."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import difference, with_interval
from benchmarks.analysis.trained import models_of, unequal
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
RUNS = ("full-synthetic-cpu", "tokens-synthetic-cpu", "elastic-synthetic-cpu")
METRIC = "ndcg@10"


def together() -> list[Configuration]:
    """The configurations of three runs on the same data, a record of a cell once."""
    records = {record.cell_key: record for run in RUNS for record in load_records(PROJECT / "results" / run)}
    return configurations(list(records.values()))


def found(every: list[Configuration], backbone: str, compression: str, training: str) -> Configuration:
    """The one of 4 vectors of one segment behind 64 + 8 items, not taught and served as it was trained; by the grid's own recipe."""
    [one] = [
        one
        for one in every
        if (c := one.cell)
        and (c.backbone, c.compression, c.training, c.tokens, c.history, c.segments, c.distillation)
        == (backbone, compression, training, 4, 64, 1, 0.0)
        and not one.changed
        and c.patience == 3
    ]
    return one


def table_rows() -> Iterator[str]:
    """The rows as the page has them."""
    every = together()
    for title, backbone, training in (
        ("HSTU, its own", "hstu", "separate"),
        ("SASRec, its own", "sasrec", "separate"),
        ("HSTU, elastic", "hstu", "elastic"),
        ("SASRec, elastic", "sasrec", "elastic"),
    ):
        tokens, pooled = found(every, backbone, "experts", training), found(every, backbone, "pooling", "separate")
        assert {one.dataset_digest for one in (tokens, pooled)} == {tokens.dataset_digest}
        assert [len(one.measured) for one in (tokens, pooled)] == [3, 3]
        assert unequal(tokens, pooled) == ()
        ours, theirs = tokens.quality(METRIC), pooled.quality(METRIC)
        steps = ", ".join(f"{model.steps:,}" for model in models_of(tokens)), ", ".join(f"{model.steps:,}" for model in models_of(pooled))
        told = with_interval(difference(ours, theirs), "signed")
        yield f"| {title} | {ours.value:.4f} | {theirs.value:.4f} | {told} | {steps[0]} | {steps[1]} |"


def test_four_tokens_beside_four_means_are_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "better_tokens.md").read_text()
    assert [row for row in table_rows() if row not in page] == []
