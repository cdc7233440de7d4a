"""The report as Markdown, short enough for a pull request."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.labels import METRIC_NAMES
from benchmarks.report.answer import short_answers
from benchmarks.report.content import Report
from benchmarks.report.tables.protocols import PROTOCOLS
from benchmarks.report.tabular import Table, markdown
from benchmarks.text import amount, literal

MOST_BYTES = 60_000  # a comment of a pull request takes 65,536 characters
_TABLE_ROWS = (60, 40, 30, 20, 12, 6, 2)  # of a table at most; the first number that makes the summary short enough is used
_MOST_LINES = 40  # of the findings
_SECTIONS = ("comparisons", "ablations", "staleness", "precision", "limits")


def summary_of(report: Report, *, beside: Sequence[str]) -> str:
    """The summary. ``beside`` are the files that lie beside it; it shows the first picture of these."""
    texts = (_summary_text(report, beside, rows) for rows in _TABLE_ROWS)
    return next((text for text in texts if len(text.encode()) <= MOST_BYTES), _summary_text(report, beside, 0))


def _summary_text(report: Report, beside: Sequence[str], rows: int) -> str:
    banner = report.banner
    lines = [f"# {literal(report.name)}", "", *(line for sentence in banner.first for line in (literal(sentence), ""))]
    lines += [f"**{banner.word}**: {literal(banner.summary)}", "", "## The answer", ""]
    lines += [line for sentence in short_answers(report.answers) for line in (literal(sentence), "")]
    picture = next((name for name in beside if name.endswith(".png")), None)
    if picture is not None:
        lines += [f"![{literal(report.pictures[0].title)}]({picture})", ""]
    lines += [f"- {name}: {literal(value)}" for name, value in banner.facts]
    lines += ["", *_points([*banner.warnings, *banner.findings, *banner.more]), ""]
    lines += [_cut(table, rows) for table in (*report.ranked, *_under_protocols(report))]
    for section in report.sections:
        if section.key in _SECTIONS:
            lines += [f"## {section.title}", ""]
            for group in section.groups:
                lines += [*_points([*group.texts, *group.points]), ""]
                lines += [_cut(table, rows) for table in _first_of_each_kind(group.tables)]
    return "\n".join(lines).rstrip() + f"\n\nbeside this page: {', '.join(sorted(beside)) or 'nothing'}\n"  # marks it as ours


def _under_protocols(report: Report) -> Iterator[Table]:
    """The tables under published protocols: the page folds them, but they are what a run for them is about."""
    groups = (group for section in report.sections if section.key == "ranking" for group in section.groups)
    yield from (table for group in groups for table in group.folded if table.key.startswith(PROTOCOLS))


def _points(texts: Sequence[str]) -> list[str]:
    more = [f"- and {len(texts) - _MOST_LINES} more, on the page"] if len(texts) > _MOST_LINES else []
    return [*(f"- {literal(text)}" for text in texts[:_MOST_LINES]), *more]


def _cut(table: Table, rows: int) -> str:
    rest = len(table.rows) - rows
    return markdown(table, most=rows) + (f"\n{amount(rest, 'more row')}, on the page\n" if rest > 0 else "")


def _first_of_each_kind(tables: Iterable[Table]) -> Iterator[Table]:
    """The tables without the second of two that differ only in the name of the quality."""
    kinds: set[tuple[str, ...]] = set()
    for table in tables:
        columns = tuple(column.name for column in table.columns if column.name not in METRIC_NAMES.values())
        if columns not in kinds:
            kinds.add(columns)
            yield table
