"""What the page on better tokens says of 4 tokens beside pooling and memory stands in the committed records of four runs."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import difference, with_interval
from benchmarks.analysis.trained import models_of, unequal
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
RUNS = ("rivals-synthetic-cpu", "full-synthetic-cpu", "tokens-synthetic-cpu", "elastic-synthetic-cpu")
METRIC = "ndcg@10"
BACKBONES = {"hstu": "HSTU", "sasrec": "SASRec"}
RIVALS = {"pooling": 1, "memory": 4}  # segments of each


def together() -> list[Configuration]:
    """The configurations of four runs on the same data, a record of a cell once: that of the first run that has it."""
    records = {record.cell_key: record for run in reversed(RUNS) for record in load_records(PROJECT / "results" / run)}
    return configurations(list(records.values()))


def found(every: list[Configuration], backbone: str, compression: str, training: str, *, segments: int) -> Configuration:
    """The one of 4 vectors behind 64 + 8 items, not taught and served as it was trained; by the grid's own recipe."""
    wanted = (backbone, compression, training, 4, 64, segments, 0.0)
    [one] = [
        one
        for one in every
        if (c := one.cell)
        and (c.backbone, c.compression, c.training, c.tokens, c.history, c.segments, c.distillation) == wanted
        and not one.changed
        and c.patience == 3
    ]
    return one


def steps_of(one: Configuration) -> str:
    return ", ".join(f"{model.steps:,}" for model in models_of(one))


def table_rows() -> Iterator[str]:
    """The rows as the page has them."""
    every = together()
    for training, said in (("separate", "its own"), ("elastic", "elastic")):
        for backbone, title in BACKBONES.items():
            tokens = found(every, backbone, "experts", training, segments=1)
            for compression, segments in RIVALS.items():
                rival = found(every, backbone, compression, "separate", segments=segments)
                assert rival.dataset_digest == tokens.dataset_digest
                assert [len(one.measured) for one in (tokens, rival)] == [3, 3]
                assert unequal(tokens, rival) == ()
                ours, theirs = tokens.quality(METRIC), rival.quality(METRIC)
                told = with_interval(difference(ours, theirs), "signed")
                numbers = f"{ours.value:.4f} | {compression} | {theirs.value:.4f} | {told}"
                yield f"| {title}, {said} | {numbers} | {steps_of(tokens)} | {steps_of(rival)} |"


def test_four_tokens_beside_their_rivals_are_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "better_tokens.md").read_text()
    assert [row for row in table_rows() if row not in page] == []
