"""What the page on real data says stands in the committed records of the grid ``quick``."""

from pathlib import Path

import pytest

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import compare
from benchmarks.analysis.trained import models_of, steps
from benchmarks.analysis.worth import worths
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
SAID = " ".join((PROJECT / "docs" / "real_data.md").read_text().split())
METRIC = "ndcg@10"
TOKENS = (1, 4, 16)
MEASURED = {
    "ebnerd": {"leave-one-out", "temporal"},
    "ml-1m": {"leave-one-out", "temporal"},
    "ml-latest-small": {"leave-one-out", "temporal"},
}


COUNTED = ("email-eu", "online-retail")  # three seeds, of outputs that count
COUNTED_TEMPORAL = ("email-eu", "online-retail")  # one seed, the same on the temporal split


def folders() -> list[Path]:
    """The runs of ``quick`` on real data with one seed, of outputs that do not count."""
    others = {"quick-synthetic-cpu", *(f"quick-{name}-cpu" for name in COUNTED)}
    others |= {f"quick-{name}-temporal-cpu" for name in COUNTED_TEMPORAL}
    return sorted(folder for folder in (PROJECT / "results").glob("quick-*-cpu") if folder.name not in others)


def row(folder: Path) -> str:
    """What a run found, as the page's table has it."""
    every = configurations(load_records(folder))
    [worth] = worths(every, METRIC)
    full = worth.full
    assert all(model.converged for one in every for model in models_of(one))
    assert {record.cell.seed for one in every for record in one.measured} == {1}
    [split] = {one.cell.split for one in every}
    tokens = [quality(one) for count in TOKENS for one in every if is_served(one, count, full.cell.history)]
    assert len(tokens) == len(TOKENS)
    floor = best_floor(every)
    users = full.quality(METRIC).n
    gap = worth.gap
    columns = [
        full.cell.dataset,
        split,
        f"{users:,}",
        f"{full.cell.history} + {full.cell.recent}",
        " / ".join(f"{steps_of(one):,}" for one in (full, worth.no_token)),
        f"{floor.cell.backbone.replace('_', ' ')}: {quality(floor)}",
        quality(worth.no_token),
        *tokens,
        quality(full),
        f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})",
    ]
    return f"| {' | '.join(columns)} |"


def quality(one: Configuration) -> str:
    return f"{one.quality(METRIC).value:.4f}"


def is_served(one: Configuration, tokens: int, history: int) -> bool:
    """Whether it is PerSRec from a user's own tokens, behind the longest history."""
    cell = one.cell
    return (cell.compression, cell.tokens, cell.history, cell.ablation) == ("experts", tokens, history, "none")


def best_floor(every: list[Configuration]) -> Configuration:
    return max((one for one in every if one.is_floor), key=lambda one: one.quality(METRIC).value or 0.0)


def steps_of(one: Configuration) -> int:
    [model] = models_of(one)
    return model.steps or 0


def test_every_row_of_the_page_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "real_data.md").read_text()
    said = [line for line in page.splitlines() if "| leave-one-out |" in line or "| temporal |" in line]
    assert sorted(said) == sorted(row(folder) for folder in folders())
    found = {tuple(line.removeprefix("| ").split(" | ")[:2]) for line in said}
    assert found == {(name, split) for name, splits in MEASURED.items() for split in splits}


def counted_row(name: str, seeds: tuple[int, ...], split: str = "") -> str:
    """What a run found, as the page's tables of outputs that count have it: all but the best floor is trained."""
    every = configurations(load_records(PROJECT / "results" / f"quick-{name}{'-' * bool(split)}{split}-cpu"))
    assert {record.cell.seed for one in every for record in one.measured if not one.is_floor} == set(seeds)
    assert {one.cell.split for one in every} == {split or "leave-one-out"}
    assert all(model.converged for one in every for model in models_of(one))
    longest = max(one.cell.history for one in every if not one.is_floor)
    tokens = {count: next(one for one in every if is_served(one, count, longest) and one.cell.counts == "all") for count in (1, 4, 16)}
    other = next(one for one in every if (one.cell.tokens, one.cell.ablation, one.cell.history) == (16, "other_user", longest))
    contrast = compare(tokens[16], every, METRIC)
    full, no_token, floor = contrast.references.full_quality, contrast.references.no_token, best_floor(every)
    assert full is not None
    assert no_token is not None
    assert no_token.cell.counts == "recent"
    counts_only = contrast.references.counts_only
    assert counts_only is not None
    assert counts_only.cell.training == "separate"
    columns = [
        f"{name}, {split}" if split else name,
        f"{full.quality(METRIC).n:,}",
        f"{floor.cell.backbone.replace('_', ' ')}: {quality(floor)}",
        *(quality(one) for one in (no_token, counts_only, tokens[1], tokens[4], tokens[16], other, full)),
        signed(contrast.full_over_no_token),
        signed(contrast.over_counts_only),
        signed(difference(tokens[16].quality(METRIC), other.quality(METRIC))),
    ]
    return f"| {' | '.join(columns)} |"


def signed(estimate: Estimate) -> str:
    assert estimate.value is not None
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def test_every_row_on_outputs_that_count_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "real_data.md").read_text()
    for name in COUNTED:
        assert counted_row(name, (1, 2, 3)) in page.splitlines()
    for name in COUNTED_TEMPORAL:
        assert counted_row(name, (1,), "temporal") in page.splitlines()


def test_what_the_temporal_split_says_of_counts_is_what_the_records_say() -> None:
    every = configurations(load_records(PROJECT / "results" / "quick-email-eu-temporal-cpu"))
    tokens = {count: next(one for one in every if is_served(one, count, 64) and one.cell.counts == "all") for count in (1, 2, 4, 8, 16)}
    contrast = compare(tokens[16], every, METRIC)
    full, no_token, counts_only = (getattr(contrast.references, name) for name in ("full_quality", "no_token", "counts_only"))
    gaps = [difference(one.quality(METRIC), other.quality(METRIC)) for one, other in ((counts_only, no_token), (counts_only, full))]
    figures = [f"{number:.4f}"[1:] for gap in gaps for number in (gap.value, gap.low, gap.high) if number is not None]
    said = "{}, {} ({} to {}) above no token, while full attention with counts lies {} ({} to {}) below counts alone"
    assert said.format(quality(counts_only)[1:], *figures) in SAID
    assert all((compare(one, every, METRIC).over_counts_only.high or 0.0) < 0 for one in tokens.values())
    floor = best_floor(every).quality(METRIC).value or 1.0
    assert all((one.quality(METRIC).value or 0.0) > floor for one in every if not one.is_floor and one.cell.ablation == "none")
    steps_said = "Steps on email-eu: {} of full attention, {} of the tokens, {} of no token, {} of counts only"
    assert steps_said.format(*map(mean_steps, (full, tokens[16], no_token, counts_only))) in SAID
    every = configurations(load_records(PROJECT / "results" / "quick-online-retail-temporal-cpu"))
    tokens_of_retail = next(one for one in every if is_served(one, 16, 64) and one.cell.counts == "all")
    references = compare(tokens_of_retail, every, METRIC).references
    full, no_token, counts_only = (getattr(references, name) for name in ("full_quality", "no_token", "counts_only"))
    gaps = [difference(one.quality(METRIC), other.quality(METRIC)) for one, other in ((no_token, counts_only), (counts_only, full))]
    figures = [f"{number:.4f}"[1:] for gap in gaps for number in (gap.value, gap.low, gap.high) if number is not None]
    said = "{}, {} ({} to {}) above counts of the history and no token, and full attention lies {} ({} to {}) below these counts"
    assert said.format(quality(no_token)[1:], *figures) in SAID
    steps_of_retail = [mean_steps(one) for one in (full, tokens_of_retail, no_token, counts_only)]
    assert "on Online Retail: {}, {}, {} and {}.".format(*steps_of_retail) in SAID


RECENTS, HISTORIES = (4, 8, 16, 32), (16, 32, 64)


def is_behind_64(one: Configuration) -> bool:
    return (one.cell.compression, one.cell.history) == ("experts", 64)


def recents_rows() -> tuple[list[str], list[str]]:
    """The tables of the page on fewer recent items: behind 64 items by tokens, and by the length of the history."""
    every = configurations(load_records(PROJECT / "results" / "recents-email-eu-cpu"))
    assert all(model.converged for one in every for model in models_of(one))
    assert {record.cell.seed for one in every for record in one.measured if not one.is_floor} == {1}
    by_tokens, by_length = [], []
    for recent in RECENTS:
        cells = [one for one in every if one.cell.recent == recent and not one.is_floor]
        found = {(one.cell.counts, one.cell.training, one.cell.ablation, one.cell.tokens): one for one in cells if is_behind_64(one)}
        assert len(found) == sum(map(is_behind_64, cells)) == 12
        elastic = {tokens: found["all", "elastic", "none", tokens] for tokens in (0, 1, 4, 16)}
        other, random = (found["all", "elastic", ablation, 4] for ablation in ("other_user", "random_tokens"))
        no_token, counts_only = (found[counts, "separate", "none", 0] for counts in ("recent", "all"))
        by_history = {(one.cell.compression, one.cell.tokens, one.cell.history): one for one in cells if one.cell.ablation == "none"}
        full = by_history["full", 0, 64]
        columns = [
            str(recent),
            *(quality(one) for one in (no_token, counts_only, *elastic.values(), other, random, full)),
            signed(difference(full.quality(METRIC), no_token.quality(METRIC))),
            signed(difference(elastic[4].quality(METRIC), counts_only.quality(METRIC))),
            signed(difference(elastic[4].quality(METRIC), other.quality(METRIC))),
            " / ".join(f"{steps_of(one):,}" for one in (no_token, counts_only, elastic[4], full)),
        ]
        by_tokens.append(f"| {' | '.join(columns)} |")
        lengths = [by_history[(*kind, history)] for kind in (("full", 0), ("experts", 4)) for history in HISTORIES]
        by_length.append(f"| {' | '.join([str(recent), *map(quality, lengths)])} |")
    return by_tokens, by_length


def test_every_row_on_fewer_recent_items_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "real_data.md").read_text()
    section = page.partition("## Behind fewer recent items")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(tuple(f"| {recent} |" for recent in RECENTS))]
    assert rows == [row for table in recents_rows() for row in table]


def mean_steps(one: Configuration) -> str:
    return f"{steps(one) or 0.0:,.0f}"


def test_the_steps_behind_the_rows_on_outputs_that_count_are_said() -> None:
    page = (PROJECT / "docs" / "real_data.md").read_text().replace("\n", " ")
    form = {"email-eu": "email-eu, {} of full attention, {} of the tokens, {} of no token", "online-retail": "Online Retail, {}, {} and {}"}
    for name in COUNTED:
        every = configurations(load_records(PROJECT / "results" / f"quick-{name}-cpu"))
        tokens = next(one for one in every if is_served(one, 16, 64))
        references = compare(tokens, every, METRIC).references
        assert references.full_quality is not None
        assert references.no_token is not None
        assert form[name].format(*map(mean_steps, (references.full_quality, tokens, references.no_token))) in page


@pytest.mark.parametrize(("name", "below"), [("email-eu", ()), ("online-retail", (1, 2))])
def test_whether_tokens_add_to_counts_is_what_the_records_say(name: str, below: tuple[int, ...]) -> None:
    every = configurations(load_records(PROJECT / "results" / f"quick-{name}-cpu"))
    over = {
        count: compare(one, every, METRIC).over_counts_only
        for one in every
        if (count := one.cell.tokens) and is_served(one, count, 64) and one.cell.counts == "all"
    }
    assert {count: gap.holds_zero for count, gap in over.items()} == {count: count not in below for count in (1, 2, 4, 8, 16)}
    assert all((over[count].high or 0.0) < 0 for count in below)
    best = max(gap.value or 0.0 for gap in over.values())
    assert f"the best of them {best:+.4f}".replace("0.", ".") in SAID


@pytest.mark.parametrize(
    ("name", "beside_no_token"),
    [("email-eu", "{}, {} ({} to {}) above no token"), ("online-retail", "{}, {} ({} to {}) below no token")],
)
def test_what_counts_alone_reach_is_what_the_records_say(name: str, beside_no_token: str) -> None:
    every = configurations(load_records(PROJECT / "results" / f"quick-{name}-cpu"))
    tokens = next(one for one in every if is_served(one, 16, 64))
    references = compare(tokens, every, METRIC).references
    counts_only, full, no_token = references.counts_only, references.full_quality, references.no_token
    assert counts_only is not None
    assert full is not None
    assert no_token is not None
    assert counts_only.cell.training == "separate"
    taken = [f"{model.steps:,}" for model in models_of(counts_only)]
    assert f"three seeds of {taken[0]}, {taken[1]} and {taken[2]} steps" in SAID
    elastic = next(one for one in every if is_served(one, 0, 64) and (one.cell.training, one.cell.counts) == ("elastic", "all"))
    for form, (ours, theirs) in {
        beside_no_token: (counts_only, no_token) if name == "email-eu" else (no_token, counts_only),
        "cannot be distinguished from it ({1}, {2} to {3})": (full, counts_only),
        "surely below ({1}, {2} to {3})": (elastic, counts_only),
    }.items():
        gap = difference(ours.quality(METRIC), theirs.quality(METRIC))
        figures = [f"{number:+.4f}".replace("0.", ".", 1) for number in (gap.value, gap.low, gap.high)]
        figures = [figure.removeprefix("+") for figure in figures] if form == beside_no_token else figures
        reached = counts_only if form == beside_no_token else ours
        assert form.format(f".{quality(reached)[2:]}", *figures) in SAID, (form, figures)


# HR@10 and NDCG@10, of RecTools 0.19's own page and of antklen's repository (SASRec, 3,000 negatives)
PUBLISHED = {("hstu", "rectools"): ("0.3227", "0.1879"), ("sasrec", "5-core"): ("0.3159", "0.1857")}
NAMES = {"hstu": "HSTU", "sasrec": "SASRec"}


def published_row(one: Configuration) -> str:
    assert all(model.converged for model in models_of(one))
    [protocol] = {quality.name for record in one.measured for quality in record.protocols}
    told = [record.protocols[0].metrics[METRIC].value for record in one.measured]
    assert one.quality(METRIC).value == pytest.approx(sum(told) / len(told), rel=1e-9)  # the data have this protocol's events alone
    found = [one.quality(metric) for metric in ("recall@10", METRIC)]
    qualities = [f"{quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f})" for quality in found]
    columns = [NAMES[one.cell.backbone], protocol, str(len(one.measured)), mean_steps(one), *qualities]
    return f"| {' | '.join([*columns, *PUBLISHED[one.cell.backbone, protocol]])} |"


def test_every_row_beside_a_published_one_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "real_data.md").read_text().splitlines()
    every = configurations(load_records(PROJECT / "results" / "published-ml-1m-cpu"))
    assert every
    for one in every:
        assert published_row(one) in page
