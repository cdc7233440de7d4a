"""Tables as the report holds them: what stands in a cell, what it sorts by, and the same as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, Form, with_interval
from benchmarks.analysis.trained import steps_in_words, unequal
from benchmarks.report.names import MEANINGS, UNEQUAL
from benchmarks.text import literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column's heading; ``numeric`` aligns right; ``explanation`` shows on hovering and below the table."""

    name: str
    numeric: bool = False
    explanation: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What stands in one place of a table.

    ``order`` is what scripts sort by; ``detail`` is a second, smaller line; ``folded`` opens on demand; ``tone`` is good, fine,
    warn, bad, muted, long (text that needs room), code or nothing.
    """

    text: str
    order: float | None = None
    detail: str = ""
    tone: str = ""
    family: str = ""
    folded: str = ""


STATIC_ROWS = 25
_A_FEW_MORE = 5  # rows beyond the static ones that are not worth a button
RETENTION = "kept of its backbone's full history"  # not of the best of all backbones, as an answer's and a budget's share is
RETENTION_IS = (
    "quality as a share of full history's on the same backbone and window; not quoted where the long history is worth nothing measurable"
)
NO_SEED = "a cost is the same for every seed"
NOTHING = Entry(text=text.MISSING, tone="muted")
REFERENCE = Entry(text="the reference", tone="muted")
CHANCE = "share of the draws of users in which nothing dominates it; the share does not cover another training"
PAIRED = "paired over users and seeds; coloured where three seeds or more, equally trained, have a 95% interval without 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Entries in the order of the columns; the filter selects by ``family`` and ``backbone``."""

    entries: tuple[Entry, ...]
    family: str = ""
    backbone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; ``key`` is its id in the page, ``filters`` offers a filter per family, ``is_map`` colours its entries by tone.

    A page holds the first ``static`` rows as they are; scripts draw the rest of a longer table, from fewer bytes. ``drawn`` is set where
    all rows also stand in the page's compact table, in the same order: it is the number of their group there.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    filters: bool = False
    is_map: bool = False
    static: int = STATIC_ROWS
    drawn: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.entries) != len(self.columns):
                raise ValueError(f"table {self.key}: a row of {len(row.entries)} entries, expected {len(self.columns)}")

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows that a page holds as they are."""
        return self.rows if len(self.rows) <= self.static + _A_FEW_MORE else self.rows[: self.static]

    @property
    def rest(self) -> tuple[Row, ...]:
        """The rows that scripts draw from the table itself; none where it is drawn from the compact one."""
        return self.rows[len(self.shown) :] if self.drawn is None else ()

    @property
    def explained(self) -> tuple[tuple[str, str], ...]:
        """The names of the columns with an explanation, those of the same one together, and the explanation."""
        meanings: dict[str, list[str]] = {}
        for column in self.columns:
            if column.explanation:
                meanings.setdefault(column.explanation, []).append(column.name)
        return tuple((", ".join(names), explanation) for explanation, names in meanings.items())

    @property
    def legend(self) -> tuple[str, ...]:
        """The meanings of the marks in the table."""
        texts = [self.caption, *(text for row in self.rows for entry in row.entries for text in (entry.text, entry.detail))]
        return tuple(f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if any(mark in text for text in texts))


def columns(*names: str, numeric: Iterable[str] = (), explanations: dict[str, str] | None = None) -> tuple[Column, ...]:
    """Columns by name."""
    right = set(numeric)
    return tuple(Column(name=name, numeric=name in right, explanation=(explanations or {}).get(name, "")) for name in names)


def row(*entries: Entry | str, family: str = "", backbone: str = "") -> Row:
    """A row; plain texts are entries as they are."""
    return Row(
        entries=tuple(entry if isinstance(entry, Entry) else Entry(text=entry) for entry in entries), family=family, backbone=backbone
    )


def with_seeds(table: Table, ones: Sequence[Configuration]) -> Table:
    """The table with the seeds of each row: in its caption where all rows have as many, else as a column behind the configuration.

    Args:
        table: a table with a row for each configuration.
        ones: the configuration of each row.
    """
    return with_seed_counts(table, [len(one.measured) for one in ones], "its quality is the mean of so many trainings")


def with_seed_counts(table: Table, counts: Sequence[int], explanation: str) -> Table:
    """As `with_seeds`, of a number of seeds for each row."""
    if len(set(counts)) < 2:
        note = f"; {text.amount(counts[0], 'seed')} each" if counts else ""
        return replace(table, caption=table.caption + note)
    at = 1 + next((place for place, column in enumerate(table.columns) if column.name == "configuration"), 0)
    column = Column(name="seeds", numeric=True, explanation=explanation)
    rows = tuple(
        replace(row, entries=(*row.entries[:at], of_count(count), *row.entries[at:])) for row, count in zip(table.rows, counts, strict=True)
    )
    return replace(table, columns=(*table.columns[:at], column, *table.columns[at:]), rows=rows)


def of_count(value: float) -> Entry:
    """A number of things."""
    return Entry(text=text.count(value), order=value)


def of_cost(metric: str, estimate: Estimate) -> Entry:
    """A cost in its unit, or why there is none."""
    if estimate.value is None:
        return Entry(text=text.MISSING, detail=estimate.reason, tone="muted")
    return Entry(text=text.quantity(metric, estimate.value), order=estimate.value, detail=_ends(metric, estimate))


def bare_cost(metric: str, estimate: Estimate) -> Entry:
    """A cost in its unit alone, without its interval or the reason why there is none."""
    return replace(of_cost(metric, estimate), detail="")


def said_cost(metric: str, estimate: Estimate) -> str:
    """A known cost, with its interval in brackets where it has one: a time varies from process to process."""
    ends = _ends(metric, estimate)
    return text.quantity(metric, estimate.value or 0.0) + (f" ({ends})" if ends else "")


def _ends(metric: str, estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return ""
    low, high = text.quantity(metric, estimate.low), text.quantity(metric, estimate.high)
    number, _, unit = low.rpartition(" ")
    return f"{number if number and high.endswith(f' {unit}') else low} to {high}"


def of_quality(estimate: Estimate, form: Form = "ratio") -> Entry:
    """A quality with its interval below it, or why there is none; ``form`` as in ``with_interval``."""
    if estimate.value is None:
        return Entry(
            text="undefined" if estimate.reason.startswith("undefined") else text.MISSING,
            detail=estimate.reason.removeprefix("undefined: "),
            tone="muted",
        )
    value, _, interval = with_interval(estimate, form).partition(" (")
    return Entry(text=value, order=estimate.value, detail=interval.removesuffix(")") or estimate.reason)


def of_ratio(value: float | None) -> Entry:
    """A figure such as NDCG@10 by itself, or that there is none."""
    return NOTHING if value is None else Entry(text=text.ratio(value), order=value)


def of_difference(estimate: Estimate) -> Entry:
    """A signed difference, coloured where the interval of three seeds or more leaves 0 out."""
    entry = of_quality(estimate, "signed")
    return replace(entry, tone={1: "good", -1: "bad"}[estimate.sign]) if estimate.sign else entry


def of_comparison(estimate: Estimate, one: Configuration, other: Configuration | None, *, besides: Sequence[str] = ()) -> Entry:
    """The difference between two trained models, with their steps where these differ. After unequal training it has a mark and no colour.

    ``besides`` are further reasons why it does not rest on equal training.
    """
    entry = of_difference(estimate)
    if estimate.value is None or other is None:
        return entry
    reasons = (*unequal(one, other), *besides)
    if not any(steps_in_words(one, other) in reason for reason in reasons):
        entry = with_steps(entry, one, other)
    return of_unequal(entry, reasons)


def with_steps(entry: Entry, one: Configuration, other: Configuration | None) -> Entry:
    """The entry, with the steps of two models in its detail where these differ."""
    steps = "" if other is None or entry.order is None else steps_in_words(one, other)
    return replace(entry, detail="; ".join((*filter(None, (entry.detail,)), steps))) if steps else entry


def of_unequal(entry: Entry, reasons: Sequence[str]) -> Entry:
    """The entry; where it does not rest on equal training, with a mark and the reasons."""
    if not reasons or entry.order is None:
        return entry
    detail = "; ".join(part for part in (entry.detail, *reasons) if part)
    return replace(entry, text=f"{entry.text} {UNEQUAL}", detail=detail, tone="warn")


def of_chance(probability: float | None, *, on_frontier: bool) -> Entry:
    """How often a configuration is on a frontier when users are drawn anew, and whether it is on the frontier of the values."""
    detail = "on it" if on_frontier else ""
    if probability is None:
        return Entry(text=text.MISSING, detail=f"{detail}, without an interval".removeprefix(", "), tone="muted")
    return Entry(text=text.percent(probability), order=probability, tone="good" if on_frontier else "", detail=detail)


def markdown(table: Table, *, most: int | None = None) -> str:
    """The table as Markdown: the caption, then the rows, at most ``most`` of them. No text is cut off."""
    lines = [f"**{literal(table.caption)}**", ""]
    lines.append("| " + " | ".join(literal(column.name) for column in table.columns) + " |")
    lines.append("| " + " | ".join("---:" if column.numeric else "---" for column in table.columns) + " |")
    lines += ["| " + " | ".join(_entry_text(entry) for entry in row.entries) + " |" for row in table.rows[:most]]
    lines += [line for text in table.legend for line in ("", literal(text))]
    lines += [line for names, explanation in table.explained for line in ("", f"*{literal(names)}*: {literal(explanation)}.")]
    return "\n".join(lines) + "\n"


def _entry_text(entry: Entry) -> str:
    more = "; ".join(part for part in (entry.detail, entry.folded) if part)
    return f"{literal(entry.text)} ({literal(more)})" if more else literal(entry.text)
