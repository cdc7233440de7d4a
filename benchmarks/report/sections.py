"""What a page is made of: sections, each of groups of texts, figures and tables."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Family
from benchmarks.report.tables.endings import FailedCell
from benchmarks.report.tabular import Table
from benchmarks.report.texts import LEADS, TITLES


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A part of a section: texts, then figures, then tables; ``folded`` tables and ``words`` with their meanings open on demand."""

    title: str = ""
    texts: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    failures: tuple[FailedCell, ...] = ()
    points: tuple[str, ...] = ()
    glossary: tuple[Family, ...] = ()
    words: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A chapter of the report."""

    key: str
    title: str
    lead: str
    groups: tuple[Group, ...]


def section(key: str, groups: Iterable[Group]) -> Section:
    """A section with its standing title and lead."""
    return Section(key=key, title=TITLES[key], lead=LEADS[key], groups=tuple(groups))


def where_there_is_one(key: str, groups: list[Group]) -> list[Section]:
    """The section, or none where it would be empty."""
    return [section(key, groups)] if groups else []
