"""Packs the rows of long tables in few bytes: a text that stands in several places is written once, in the page's list of words."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.tabular import Entry, Row, Table

_DIGITS = 6  # of what a row is sorted by
_SHORT = 3  # characters: a text so short is written wherever it stands


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How the rows of a page are packed: numbers stand for the compact table's ``labels``, then for the texts in ``words``."""

    words: tuple[str, ...]
    places: Mapping[str, int]

    @classmethod
    def of(cls, tables: Iterable[Table], labels: Sequence[str]) -> "Packing":
        """For the tables of one page."""
        counts = Counter(text for table in tables for row in table.rest for text in _texts(row))
        label_places = {label: place for place, label in reversed(list(enumerate(labels)))}
        words = tuple(text for text, times in counts.items() if times > 1 and len(text) > _SHORT and text not in label_places)
        return cls(words=words, places=label_places | {word: len(labels) + place for place, word in enumerate(words)})

    def rows(self, table: Table) -> list[list[Any]]:
        """The rest of a table: family, backbone, then each entry's text, or its fields where it has more than a text."""
        return [[self._word(row.family), self._word(row.backbone), *map(self._entry, row.entries)] for row in table.rest]

    def _entry(self, entry: Entry) -> Any:
        order = None if entry.order is None or not math.isfinite(entry.order) else float(f"{entry.order:.{_DIGITS}g}")
        texts = [self._word(text) for text in (entry.text, entry.detail, entry.tone, entry.family, entry.folded)]
        fields = [texts[0], order, *texts[1:]]
        while len(fields) > 1 and fields[-1] in ("", None):
            fields.pop()
        return fields[0] if len(fields) == 1 else fields

    def _word(self, text: str) -> str | int:
        return self.places.get(text, text)


def _texts(row: Row) -> Iterable[str]:
    yield from (row.family, row.backbone)
    for entry in row.entries:
        yield from (entry.text, entry.detail, entry.tone, entry.family, entry.folded)
