"""What was the same for every model, and what the words of the report mean."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import Configuration
from benchmarks.report.names import families
from benchmarks.report.sections import Group, Section, section
from benchmarks.report.tables.settings import settings_table
from benchmarks.report.texts import WORDS


def settings_section(among: Sequence[Configuration]) -> Section:
    """Settings in one table, and the glossary: its standing words, then the families of this run."""
    table = settings_table(among)
    of_families = tuple((kind.name, f"{kind.explanation}.") for kind in families(among))
    return section("settings", [Group(folded=(table,) if table else (), words=(*WORDS, *of_families))])
