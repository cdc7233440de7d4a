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
PAGE = (PROJECT / "docs" / "recipes.md").read_text()
METRIC = "ndcg@10"
SIDES = {"full": "full attention", "experts": "4 tokens", "pooling": "pooling"}
PLAIN, SAME, WIDE = "as in `full`", "the same model", "5 x 128"
Tried = dict[str, Configuration]  # by setting


def searches(backbone: str) -> dict[str, Tried]:
    """The plain model and those one setting away from it, for each way of keeping the history; one seed each."""
    every = configurations(load_records(PROJECT / "results" / "recipes-synthetic-cpu"))
    assert all(len(one.measured) == 1 for one in every)
    found = {}
    for around in alone([one for one in every if one.cell.backbone == backbone]):
        found[around[0].plain.cell.compression] = {PLAIN: around[0].plain} | {setting(pair): pair.changed for pair in around}
    assert sorted(found) == sorted(SIDES)
    return found


def setting(pair: Alone) -> str:
    return ", ".join(in_words(pair.changed.cell, pair.fields))


def signed(one: Configuration, other: Configuration) -> str:
    """How far one lies above the other on test, with its interval over users."""
    gap = difference(one.quality(METRIC), other.quality(METRIC))
    if gap.low is None:  # the same ranks
        assert gap.value == 0.0
        return SAME
    return f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})".replace("-", "\N{MINUS SIGN}")


def entry(one: Configuration, plain: Configuration) -> list[str]:
    """Validation, with the mark of a model that had not converged, and on test the difference from the plain one."""
    mark = "" if all(model.converged for model in models_of(one)) else "\N{DAGGER}"
    validation = f"{own_validation(one):.4f}{mark}"
    return [validation, f"{one.quality(METRIC).value:.4f}" if one is plain else signed(one, plain)]


def rows(backbone: str) -> Iterator[str]:
    """The table of a backbone: the plain recipe, then each setting alone."""
    found = searches(backbone)
    for name in found["full"]:
        yield row(name, [entry(tried[name], tried[PLAIN]) for tried in (found[side] for side in SIDES)])


def row(name: str, entries: Sequence[Sequence[str]]) -> str:
    return f"| {' | '.join([name, *(text for side in entries for text in side)])} |"


def chosen(tried: Tried) -> str:
    """The setting of the best model on validation."""
    return max(tried, key=lambda name: own_validation(tried[name]) or 0.0)


def test_every_row_is_what_the_records_say() -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("| ")]
    expected = list(rows("hstu"))
    assert table[2 : 2 + len(expected)] == expected


def test_the_choices_are_the_best_on_validation() -> None:
    for side, tried in searches("hstu").items():
        name = chosen(tried)
        validation, test = own_validation(tried[name]), tried[name].quality(METRIC).value
        assert f"| {SIDES[side]} | {name} | {validation:.4f} | {test:.4f} |" in PAGE.splitlines()


def test_the_leads_over_pooling_are_those_of_the_records() -> None:
    found = searches("hstu")
    tokens, means = found["experts"], found["pooling"]
    wide, plain = signed(tokens[WIDE], means[WIDE]), signed(tokens[PLAIN], means[PLAIN])
    best = signed(tokens[chosen(tokens)], means[chosen(means)])
    text = " ".join(PAGE.split())
    assert f"With width 128 four tokens lie {wide} above four means, where with width 64 they lie {plain} above" in text
    assert f"Each side at its best on validation, they lie {best} above" in text
    references = [own_validation(one) for name, one in found["full"].items() if name != "dropout 0.4"]
    assert f"between {min(references):.4f} and {max(references):.4f} on validation" in text


def test_three_seeds_of_the_temperature_are_those_of_the_records() -> None:
    """Seed 1 is of the search, the others are of runs of their own, and the plain models are those of ``full``."""
    folders = [PROJECT / "results" / f"{name}-synthetic-cpu" for name in ("full", "recipes", "temperature")]
    records = [record for folder in folders for record in load_records(folder)]
    warm = [record for record in records if record.cell.temperature == 0.1]
    of_full = [record for record in load_records(folders[0]) if record.cell.training == "separate" and record.cell.temperature == 0.05]
    chosen_cells = [
        one for one in (*warm, *of_full) if one.cell.backbone == "hstu" and one.cell.tokens == 4 and one.cell.ablation == "none"
    ]
    models = {(one.cell.compression, one.cell.temperature): one for one in configurations(chosen_cells)}
    assert all(len(one.measured) == 3 for one in models.values())
    for side in ("experts", "pooling"):
        entries = [models[side, temperature] for temperature in (0.05, 0.1)]
        figures = [f"{value:.4f}" for one in entries for value in (own_validation(one), one.quality(METRIC).value)]
        steps = ["; ".join(", ".join(f"{model.steps:,}" for model in models_of(one)) for one in entries)]
        assert all(model.converged for one in entries for model in models_of(one))
        assert row(SIDES[side], [[*figures, signed(entries[1], entries[0]), *steps]]) in PAGE.splitlines()
    lead = signed(models["experts", 0.1], models["pooling", 0.05])
    assert f"Tokens at 0.1 lie {lead} above pooling at 0.05" in " ".join(PAGE.split())
