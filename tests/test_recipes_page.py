"""What the page on recipes says stands in the committed records of the grid ``recipes``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.analysis.alone import Alone, alone
from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import difference
from benchmarks.analysis.trained import models_of, own_validation
from benchmarks.labels import in_words
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
METRIC = "ndcg@10"
SIDES = ("full", "experts", "pooling")
PLAIN = "as in `full`"


def searches(backbone: str) -> dict[str, list[Alone]]:
    """The models one setting away from the plain one, for each way of keeping the history; one seed each."""
    every = configurations(load_records(PROJECT / "results" / "recipes-synthetic-cpu"))
    assert all(len(one.measured) == 1 for one in every)
    found = {around[0].plain.cell.compression: around for around in alone([one for one in every if one.cell.backbone == backbone])}
    assert sorted(found) == sorted(SIDES)
    return found


def setting(pair: Alone) -> str:
    return ", ".join(in_words(pair.changed.cell, pair.fields))


def entry(one: Configuration, plain: Configuration) -> list[str]:
    """Validation, with the mark of a model that had not converged, and on test the difference from the plain one."""
    mark = "" if all(model.converged for model in models_of(one)) else "\N{DAGGER}"
    validation = f"{own_validation(one):.4f}{mark}"
    if one is plain:
        return [validation, f"{one.quality(METRIC).value:.4f}"]
    gap = difference(one.quality(METRIC), plain.quality(METRIC))
    return [validation, f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})".replace("-", "\N{MINUS SIGN}")]


def rows(backbone: str) -> Iterator[str]:
    """The table of a backbone: the plain recipe, then each setting alone."""
    found = searches(backbone)
    plain = [entry(found[side][0].plain, found[side][0].plain) for side in SIDES]
    yield _row(PLAIN, plain)
    by_setting = [{setting(pair): pair for pair in found[side]} for side in SIDES]
    for name in by_setting[0]:
        yield _row(name, [entry(pairs[name].changed, pairs[name].plain) for pairs in by_setting])


def _row(name: str, entries: Sequence[Sequence[str]]) -> str:
    return f"| {' | '.join([name, *(text for side in entries for text in side)])} |"


def test_every_row_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "recipes.md").read_text().splitlines()
    for backbone in ("hstu",):
        for row in rows(backbone):
            assert row in page
