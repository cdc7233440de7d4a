"""What the page on real data says stands in the committed records of the grid ``quick``."""

from pathlib import Path

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.trained import models_of
from benchmarks.analysis.worth import worths
from benchmarks.records import load_records

PROJECT = Path(__file__).resolve().parent.parent
METRIC = "ndcg@10"
TOKENS = (1, 4, 16)
MEASURED = {
    "ebnerd": {"leave-one-out", "temporal"},
    "email-eu": {"leave-one-out", "temporal"},
    "ml-1m": {"leave-one-out", "temporal"},
    "ml-latest-small": {"leave-one-out", "temporal"},
    "online-retail": {"leave-one-out", "temporal"},
}


def folders() -> list[Path]:
    """The runs of ``quick`` on real data."""
    return sorted(folder for folder in (PROJECT / "results").glob("quick-*-cpu") if folder.name != "quick-synthetic-cpu")


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
