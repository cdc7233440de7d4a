"""One label per configuration: what a person calls a cell, the same in a list, a progress line, a gate and a report.

A label says what tells the cells of one list apart and no more. What all of them share is left out. Where two labels would be the same, the
settings that differ are added. So two cells that differ never print alike.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.cell import Cell
from benchmarks.peers.part import PEERS
from benchmarks.text import amount, digest
from persrec import names
from persrec.names import PEER, Part

FLOOR, CONTROL, COUNTS_ONLY, ELASTIC, FULL_CACHED = KINDS = ("floor", "control", "counts-only", "experts-elastic", "full-cached")
METRIC_NAMES: Mapping[str, str] = MappingProxyType({"ndcg@10": "NDCG@10", "recall@10": "Recall@10"})
_BRIEF = MappingProxyType({"full": "full", FULL_CACHED: "full KV", CONTROL: "no token", COUNTS_ONLY: "counts only", "recent": "recent"})
_WORDS: Mapping[str, Mapping[Any, str]] = MappingProxyType(
    {
        "serving": {"recompute": "recomputed", "cache": "from cache", "append": "appended"},
        "moving_windows": {True: "moving windows", False: "fixed windows"},
        "random_cuts": {True: "random cuts", False: "planned cuts"},
        "copying_start": {True: "copying start", False: "plain start"},
        "time_bias": {True: "time bias", False: "no time bias"},
        "decays": {True: "decaying rate", False: "constant rate"},
        "control": {True: "timed beside full attention", False: "timed alone"},
        "counted_only": {True: "counted only", False: "run"},
        "device": {"cpu": "CPU", "cuda": "CUDA"},
        "expert_start": {"learnt": "learnt start", "pooled": "pooled start"},
        "request_time": {True: "with the request's time", False: "without the request's time"},
        "negatives": {0: "full cross-entropy"},
        "divisor": {0: "divided by keys seen", None: "divided by slots"},
        "counts": {"none": "nothing counted", "recent": "recent items counted", "all": "all items counted"},
    }
)
_TRAINED_WITH = MappingProxyType({"elastic_tokens": "{} tokens", "elastic_history": "{} items of history"})
_COUNTED = MappingProxyType({"heads": "head", "item_layers": "item layer", "threads": "thread", "epochs": "epoch", "segments": "segment"})


def kind_of(cell: Cell) -> str:
    """How a cell keeps the history, as colours and legends tell it: its compression's name, or a variant of it."""
    if cell.compression == names.NO_COMPRESSION:
        return FLOOR
    if cell.compression == "experts":
        if not cell.tokens:
            return COUNTS_ONLY if cell.counts == "all" else CONTROL
        return ELASTIC if cell.training == "elastic" else "experts"
    if cell.compression == "full" and cell.serving != "recompute":
        return FULL_CACHED
    return cell.compression


@dataclass(frozen=True, kw_only=True, slots=True)
class Titles:
    """What parts are called: as declared here, else as a record's own declaration says, else by their names."""

    declared: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, parts: Iterable[Part] = ()) -> "Titles":
        """With the declarations of ``parts`` for what is not installed."""
        installed = (names.backbones(), names.floors(), PEERS, names.compressions(), names.datasets())
        every_part = [*parts, *(part for by_name in installed for part in by_name.values())]
        return cls(declared=MappingProxyType({(part.kind, part.name): part.title for part in every_part}))

    def backbone(self, cell: Cell) -> str:
        """``HSTU``, or the name of a floor."""
        kind = {names.NO_COMPRESSION: FLOOR, PEER: PEER}.get(cell.compression, "backbone")
        return self._title(kind, cell.backbone)

    def kind(self, cell: Cell) -> str:
        """``PerSRec, elastic``, ``no token``, ``pooling``, ``peer``."""
        key = kind_of(cell)
        if key in (FLOOR, PEER):
            return key
        if key in (CONTROL, COUNTS_ONLY):
            return _BRIEF[key]
        return self._title("compression", cell.compression) + {ELASTIC: ", elastic", FULL_CACHED: ", KV cache"}.get(key, "")

    def dataset(self, cell: Cell) -> str:
        """``synthetic (small)``."""
        title = self._title("dataset", cell.dataset)
        sized = f"{title} ({cell.dataset_size})" if cell.dataset_size else title
        sized = sized if cell.protocol == names.OWN_PROTOCOL else f"{sized}, {cell.protocol}"
        return sized if cell.split == names.LEAVE_ONE_OUT else f"{sized}, {cell.split} split"

    def _title(self, kind: str, name: str) -> str:
        return self.declared.get((kind, name), name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The labels of the cells of one list."""

    long: Mapping[Cell, str]
    short: Mapping[Cell, str]
    seeds: bool

    @classmethod
    def of(cls, cells: Iterable[Cell], parts: Iterable[Part] = (), *, seeds: bool = True) -> "Labels":
        """Labels every cell.

        Args:
            cells: all that are shown together.
            parts: declarations from records, for parts that are not installed here.
            seeds: whether cells that differ in their seed alone are told apart; configurations are not.
        """
        listed = list(dict.fromkeys(cell if seeds else _without_seed(cell) for cell in cells))
        titles = Titles.of(parts)
        several = _Several.of(listed, titles)
        return cls(
            long=MappingProxyType(_distinct_labels(listed, lambda cell: _long(cell, titles, several))),
            short=MappingProxyType(_distinct_labels(listed, lambda cell: _short(cell, titles, several))),
            seeds=seeds,
        )

    def __call__(self, cell: Cell) -> str:
        """The full label: ``HSTU · PerSRec, 4 tokens · 224 + 32``."""
        return self.long[cell if self.seeds else _without_seed(cell)]

    def brief(self, cell: Cell) -> str:
        """The label as a figure or a line has room for it: ``HSTU 4 tok @224``."""
        return self.short[cell if self.seeds else _without_seed(cell)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Several:
    """What differs among the cells of a list."""

    backbone: bool
    window: bool
    training: bool
    dataset: bool

    @classmethod
    def of(cls, cells: Sequence[Cell], titles: Titles) -> "_Several":
        learning = [cell for cell in cells if kind_of(cell) != FLOOR]
        elastic = {cell.compression for cell in learning if cell.training == "elastic"}
        return cls(
            backbone=len({cell.backbone for cell in learning}) > 1,
            window=len({(cell.history, cell.recent) for cell in learning}) > 1,
            training=any(len({cell.training for cell in learning if cell.compression == name}) > 1 for name in elastic),
            dataset=len({titles.dataset(cell) for cell in cells}) > 1,
        )


def _without_seed(cell: Cell) -> Cell:
    return cell if cell.seed == 0 else dataclasses.replace(cell, seed=0)


def _long(cell: Cell, titles: Titles, several: _Several) -> str:
    parts = [titles.backbone(cell)]
    if kind_of(cell) != FLOOR:
        parts.append(_kind_and_tokens(cell, titles))
        if several.window:
            parts.append(f"{cell.history} + {cell.recent}")
    if several.dataset:
        parts.append(titles.dataset(cell))
    return " · ".join(parts)


def _kind_and_tokens(cell: Cell, titles: Titles) -> str:
    text = titles.kind(cell)
    if cell.training == "elastic" and kind_of(cell) != ELASTIC:
        text += ", elastic"
    if cell.tokens:
        text += f", {amount(cell.tokens, 'token')}"
    return ", ".join([text + _segments(cell, "segments", " in "), *_places_and_changes(cell)])


def _segments(cell: Cell, noun: str, before: str) -> str:
    return f"{before}{cell.segments} {'growing ' if cell.plan == 'growing' else ''}{noun}" if cell.segments > 1 else ""


def _places_and_changes(cell: Cell) -> list[str]:
    """Where its tokens stand, if that takes words, and what it is served from other than its own fresh cache."""
    parts = [] if cell.plan in names.PLANS else [f"at {cell.plan}"]
    if cell.ablation != "none":
        parts.append(names.ABLATIONS.get(cell.ablation, cell.ablation))
    if cell.staleness:
        parts.append(f"{cell.staleness} items old")
    if cell.cache_dtype != "float32":
        parts.append(f"{cell.cache_dtype} cache")
    return parts


def _short(cell: Cell, titles: Titles, several: _Several) -> str:
    kind = kind_of(cell)
    parts = [titles.backbone(cell)] if several.backbone or kind in (FLOOR, PEER) else []
    if kind != FLOOR:
        if kind.startswith("experts"):
            text = f"{cell.tokens} tok"
        elif cell.tokens:
            text = f"{titles.kind(cell)} {cell.tokens}"
        else:
            text = _BRIEF.get(kind) or titles.kind(cell)
        parts.append(" ".join([text + _segments(cell, "seg", "/"), *_places_and_changes(cell)]))
        if several.training and cell.training == "elastic":
            parts.append("el.")
        if several.window:
            parts.append(f"@{cell.history}")
    if several.dataset:
        parts.append(f"[{titles.dataset(cell)}]")
    return " ".join(parts)


def _distinct_labels(cells: Sequence[Cell], name: Callable[[Cell], str]) -> dict[Cell, str]:
    """Labels the cells; those of one label get the settings in which they differ."""
    labels = {cell: name(cell) for cell in cells}
    for alike in _sharing(labels):
        fields = [setting.name for setting in dataclasses.fields(Cell)]
        differing = [field for field in fields if len({getattr(cell, field) for cell in alike}) > 1]
        for cell in alike:
            labels[cell] = f"{labels[cell]} · {', '.join(in_words(cell, differing))}"
    for alike in _sharing(labels):  # for example where a dataset's name is the end of another label
        for cell in alike:
            labels[cell] = f"{labels[cell]} · cell {digest(cell.to_dict())[:12]}"
    return labels


def _sharing(labels: Mapping[Cell, str]) -> list[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell, label in labels.items():
        groups.setdefault(label, []).append(cell)
    return [group for group in groups.values() if len(group) > 1]


def in_words(cell: Cell, fields: Sequence[str]) -> list[str]:
    """Settings as people say them: ``8 x 256``, ``moving windows``, ``dropout 0.1``."""
    words = [f"{cell.layers} x {cell.width}"] if {"layers", "width"} & set(fields) else []
    for field in fields:
        value = getattr(cell, field)
        if field in ("layers", "width"):
            continue
        if value in _WORDS.get(field, ()):
            words.append(_WORDS[field][value])
        elif field in _COUNTED:
            words.append(amount(value, _COUNTED[field]))
        elif field in _TRAINED_WITH:
            words.append(f"trained with {_TRAINED_WITH[field].format('+'.join(map(str, value)) or 'no')}")
        else:
            words.append(f"{field.replace('_', ' ')} {'by default' if value is None else value}")
    return words
