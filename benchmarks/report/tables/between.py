"""Two runs as Markdown: ``python -m benchmarks.report A B``."""

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks import text
from benchmarks.analysis.between import COUNTED, TIMED, Between, RepeatedMeasure, RunPair, between, repeated
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import LEAST_SEEDS, with_interval
from benchmarks.analysis.trained import unequal
from benchmarks.labels import METRIC_NAMES
from benchmarks.records import Half, Record
from benchmarks.report import tabular
from benchmarks.report.names import Names, in_order, name_all
from benchmarks.report.tabular import Entry, Row, Table, markdown
from benchmarks.text import listed, literal, some

_METRIC = QUALITY_METRICS[0]
_MANY = 12
_UNEXPLAINED = "nothing that is recorded differs"


def between_markdown(first: Sequence[Record], second: Sequence[Record], *, names: tuple[str, str]) -> str:
    """What moved from the first run to the second, and which differences may explain it.

    Args:
        first: records of a run.
        second: records of another.
        names: what the runs are called.
    """
    runs = between(first, second)
    measures = repeated(runs.pairs)
    labels = name_all(in_order([pair.second for pair in runs.pairs]))
    parts = [f"# {literal(names[0])} to {literal(names[1])}", "", *(f"- {literal(line)}" for line in _summary(runs, measures, names)), ""]
    tables = (_qualities(runs, labels), _counts(runs, labels), _times(runs, labels), _repeated_measures(measures))
    parts += [markdown(table) for table in tables if table.rows]
    return "\n".join(parts).rstrip() + "\n"


def _summary(runs: Between, measures: Sequence[RepeatedMeasure], names: tuple[str, str]) -> Iterator[str]:
    if not runs.pairs:
        yield "No configuration is in both runs, so nothing can be compared."
    for name, (ours, theirs) in runs.settings.items():
        yield f"All cells differ in {name.replace('_', ' ')}: {ours} in the first, {theirs} in the second. Cells are paired without it."
    if runs.disjoint:
        yield f"No cell of one run has a value of the other's in {listed([name.replace('_', ' ') for name in runs.disjoint])}."
    ranked = [pair for pair in runs.pairs if pair.difference(_METRIC).value is not None]
    if ranked:
        yield _quality_sentences(ranked)
    if measures:
        values, apart, outside = (sum(getattr(one, name) for one in measures) for name in ("values", "apart", "outside"))
        yield (
            f"Of {values:,} timed values and peaks of one machine, {apart} ({text.percent(apart / values)}) have intervals apart, and "
            f"{outside} ({text.percent(outside / values)}) lie outside each other's interval."
        )
    few = sum(len(pair.seeds) < LEAST_SEEDS for pair in ranked if not pair.first.is_floor)
    if few:
        yield f"Of {few} pairs fewer than {LEAST_SEEDS} seeds are in both, so there is no verdict on these."
    yield from _why(runs)
    for side, name in ((runs.only_first, names[0]), (runs.only_second, names[1])):
        if side:
            are = "1 configuration is" if len(side) == 1 else f"{text.count(len(side))} configurations are"
            yield f"{are} in {name} alone: {_names_of(side)}."


def _quality_sentences(ranked: Sequence[RunPair]) -> str:
    same = sum(pair.is_same(_METRIC) for pair in ranked if not unequal(pair.first, pair.second))
    differences = [pair.difference(_METRIC) for pair in ranked if not unequal(pair.first, pair.second)]
    up, down = (sum(gap.sign == sign for gap in differences) for sign in (1, -1))
    apart = sum(not gap.holds_zero and not gap.sign for gap in differences)
    unpaired = sorted({gap.reason.removeprefix("not paired: ") for gap in differences if gap.low is None and gap.value and gap.reason})
    sentences = f"{METRIC_NAMES[_METRIC]} of {len(ranked)} pairs: {same} the same to the last digit, {up} higher and {down} lower at 95%"
    sentences += f", {apart} apart without a verdict, {len(differences) - same - up - down - apart} not told apart."
    if len(differences) < len(ranked):
        sentences += f" {len(ranked) - len(differences)} are not counted: training was not equal."
    return sentences + (f" Not paired: {'; '.join(unpaired)}." if unpaired else "")


def _why(runs: Between) -> Iterator[str]:
    halves: tuple[tuple[Half, str], ...] = (("quality", "Qualities"), ("cost", "Costs"))
    for half, title in halves:
        causes = Counter(cause for pair in runs.pairs for cause in pair.causes(half) if not cause.endswith(" steps"))
        if causes:
            every = [f"{cause} ({count} pairs)" for cause, count in sorted(causes.items(), key=lambda item: (-item[1], item[0]))]
            yield f"{title} were made with other {listed(every[:_MANY])}{' and more' * (len(every) > _MANY)}."


def _qualities(runs: Between, labels: Names) -> Table:
    rows = []
    for pair in sorted(runs.pairs, key=lambda pair: -abs(pair.difference(_METRIC).value or 0.0)):
        metrics = [metric for metric in QUALITY_METRICS if pair.difference(metric).value is not None and not pair.is_same(metric)]
        rows += [_quality_row(pair, metric, runs, labels) for metric in metrics]
    numeric = ("first", "second", "second minus first")
    caption = "Qualities that are not the same, paired over seeds and users; 95% intervals"
    return Table(key="qualities", caption=caption, columns=_columns("metric", *numeric, "why", numeric=numeric), rows=tuple(rows))


def _quality_row(pair: RunPair, metric: str, runs: Between, labels: Names) -> Row:
    return tabular.row(
        labels(pair.second),
        METRIC_NAMES[metric],
        tabular.of_quality(pair.first.quality(metric)),
        tabular.of_quality(pair.second.quality(metric)),
        tabular.of_unequal(tabular.of_difference(pair.difference(metric)), unequal(pair.second, pair.first)),
        _cause(pair, "quality", runs),
    )


def _counts(runs: Between, labels: Names) -> Table:
    rows = [
        tabular.row(labels(pair.second), metric, *(Entry(text=text.quantity(metric, value)) for value in counts), _change(*counts),
                    _cause(pair, "cost", runs))
        for pair in runs.pairs for metric in COUNTED if (counts := pair.count(metric)) is not None
    ]  # fmt: skip
    numeric = ("first", "second", "change")
    caption = "Counts that moved; they are the same on every machine"
    return Table(key="counts", caption=caption, columns=_columns("metric", *numeric, "why", numeric=numeric), rows=tuple(rows))


def _times(runs: Between, labels: Names) -> Table:
    rows = []
    for pair in runs.pairs:
        for metric in TIMED:
            share = pair.time(metric)
            if share.value is None or share.low is None or share.high is None or share.low <= 1 <= share.high:
                continue
            both = (Entry(text=text.quantity(metric, one.cost(metric).value or 0.0)) for one in (pair.first, pair.second))
            ratio = Entry(text=with_interval(share, "percent"))
            rows.append(tabular.row(labels(pair.second), metric, *both, ratio, _cause(pair, "cost", runs)))
    numeric = ("first", "second", "second over first")
    caption = (
        "Times and peaks whose ratio's interval over processes leaves out 1. They were taken at other hours, so this is no verdict: "
        "benchmarks.compare times two checkouts in turn"
    )
    return Table(key="times", caption=caption, columns=_columns("metric", *numeric, "why", numeric=numeric), rows=tuple(rows))


def _repeated_measures(measures: Sequence[RepeatedMeasure]) -> Table:
    rows = [
        tabular.row(one.metric, *(Entry(text=text.count(number), order=number) for number in (one.values, one.apart, one.outside)))
        for one in measures
    ]
    numeric = ("values", "intervals apart", "outside each other's interval")
    caption = "Timed values and peaks in both runs: 95% intervals over processes, each shape once"
    return Table(key="repeated", caption=caption, columns=tabular.columns("metric", *numeric, numeric=numeric), rows=tuple(rows))


def _columns(*names: str, numeric: Sequence[str]) -> tuple[tabular.Column, ...]:
    return tabular.columns("configuration", *names, numeric=numeric)


def _cause(pair: RunPair, half: Half, runs: Between) -> Entry:
    causes = [*(f"{name.replace('_', ' ')} {ours} to {theirs}" for name, (ours, theirs) in runs.settings.items()), *pair.causes(half)]
    if not pair.seeds and not pair.first.is_floor:
        causes.append("other seeds")
    return Entry(text="; ".join(causes) or _UNEXPLAINED, tone="" if causes else "warn")


def _change(ours: float, theirs: float) -> Entry:
    return Entry(text=text.change((theirs - ours) / ours) if ours else text.MISSING)


def _names_of(ones: Sequence[Configuration]) -> str:
    names = name_all(ones)
    return some([names(one) for one in ones], most=_MANY)
