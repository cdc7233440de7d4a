"""The settings that are the same for all cells, each once, and those that vary."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.analysis.configurations import Configuration
from benchmarks.cell import Cell
from benchmarks.report import tabular
from benchmarks.report.tabular import Entry, Table

# what a reader asks for first, in this order; the other settings follow in the order of their declaration
_MEANINGS = {
    "split": "which targets test, validate and train",
    "width": "numbers in an item's vector and in a state",
    "layers": "blocks of the backbone",
    "heads": "heads of its attention",
    "negatives": "items drawn per training step that each target is ranked above",
    "temperature": "by which cosines are divided in the loss",
    "time_bias": "whether the model is given the time of the request and of the items",
    "training": "one model for each token count and length, or an elastic one for all",
    "recent": "newest items, read at each request",
    "history": "items before the recent ones",
    "tokens": "vectors that are kept of the history",
    "segments": "pieces in which the history is compressed",
    "serving": "what is computed at a request",
    "device": "where it ran",
    "dtype": "number format of the computation",
    "threads": "of the processor",
}
_NOT_SETTINGS = ("backbone", "compression", "dataset", "dataset_size", "seed")
_VALUE_TEXTS = {True: "yes", False: "no", None: "by default", (): "none"}
_MOST_VALUES = 6


def settings_table(among: Sequence[Configuration]) -> Table | None:
    """A row for each setting: its one value, or the values that the cells have; floors, which learn nothing, are left out."""
    learning = [one for one in among if not one.is_floor]
    if not learning:
        return None
    fields = {field.name: field for field in dataclasses.fields(Cell) if field.name not in _NOT_SETTINGS}
    order = [*(name for name in _MEANINGS if name in fields), *(name for name in fields if name not in _MEANINGS)]
    values = {name: _values(learning, name) for name in order}
    same = [name for name in order if len(values[name]) == 1 and (name in _MEANINGS or values[name][0] != fields[name].default)]
    varied = [name for name in order if len(values[name]) > 1]
    rows = [tabular.row(*_loss(learning), family="", backbone=""), *_seen_items(among)]
    rows += [tabular.row(_name(name), _value_text(values[name][0]), Entry(text=_MEANINGS.get(name, ""), tone="muted")) for name in same]
    rows += [tabular.row(_name(name), _listed(values[name]), Entry(text=_MEANINGS.get(name, "varied"), tone="muted")) for name in varied]
    caption = f"Settings: {len(same)} the same for every model here, {len(varied)} varied; what is not listed has its default"
    return Table(
        key="settings-table", caption=caption, columns=tabular.columns("setting", "value", "what it is"), rows=tuple(rows), static=100
    )


def _loss(among: Sequence[Configuration]) -> tuple[str, str, Entry]:
    """The loss of our models; a peer has its own."""
    kinds = {one.cell.negatives == 0 for one in among if not one.is_peer}
    losses = " or ".join("full softmax" if full else "sampled softmax" for full in sorted(kinds))
    what = "at every item position with a next item" + ("; full where negatives are 0" if len(kinds) > 1 else "")
    return "loss", f"{losses} over cosines" if losses else "the peer's own", Entry(text=what, tone="muted")


def _seen_items(among: Sequence[Configuration]) -> list[tabular.Row]:
    """Whether items that a user had before are ranked, as the data's protocol says."""
    flags = {record.dataset.exclude_seen for one in among for record in one.records if record.dataset is not None}
    if not flags - {None}:
        return []
    treatment = " and ".join(sorted({None: "not recorded", True: "left out of the ranking", False: "ranked too"}[flag] for flag in flags))
    return [tabular.row("seen items", treatment, Entry(text="items of a user's past at evaluation", tone="muted"))]


def _values(among: Sequence[Configuration], name: str) -> list[Any]:
    values = {getattr(one.cell, name) for one in among}
    return sorted(values, key=lambda value: (value is None, str(type(value)), value if value is not None else 0))


def _name(name: str) -> str:
    return name.replace("_", " ")


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return _VALUE_TEXTS.get(value, str(value)) if isinstance(value, bool | None) else str(value)


def _listed(values: Sequence[Any]) -> str:
    texts = [_value_text(value) for value in values[:_MOST_VALUES]]
    more = len(values) - len(texts)
    return "; ".join(texts) + (f"; {more} more" if more > 0 else "")
