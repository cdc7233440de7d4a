"""How configurations are named and drawn: a family per way of keeping the history, the same colour and shape everywhere.

Colour tells the compression and shape the family, so either can be read without the other. Where backbones share a panel, fill tells
them apart. A compression declares how its family looks; where it is not installed here, the declaration in the records counts.

A configuration whose model had not converged has a mark behind its name, and so has a peer: each is marked wherever its name stands.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.trained import not_converged
from benchmarks.labels import CONTROL, COUNTS_ONLY, ELASTIC, FLOOR, FULL_CACHED, Labels, Titles, kind_of
from persrec import names
from persrec.names import CompressionPart, Part

COST_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "serve_flops": "FLOPs per request (serve)",
        "compress_serve_flops": "FLOPs of a refresh and one request (compress + serve)",
        "request_latency_p50_ms": "time of a whole request, median",
        "serve_peak_bytes": "peak memory of serving",
        "cache_bytes": "cache per user",
    }
)
CEILINGS = MappingProxyType({"whole_past": "ceiling, whole past", "last_recent": "exact predictor, recent only"})
NOT_CONVERGED, UNEQUAL, PEER_MARK = "\N{DAGGER}", "\N{DOUBLE DAGGER}", "\N{PILCROW SIGN}"
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        NOT_CONVERGED: "not converged: a bound stopped the training before its plateau, and longer training may change the number",
        UNEQUAL: "unequal training: the difference may be that of the training, and no verdict rests on it",
        PEER_MARK: "a peer: another library's model, trained and timed by its own code; it is no reference of our configurations",
    }
)
FILLS = ("full", "none", "left", "bottom")
_KEY = re.compile("[a-z][a-z0-9-]*")
_MARKERS = "ov^<>8sp*hHDdPX"  # those of matplotlib's that can be filled


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One way of keeping the history.

    ``colour`` is for light paper and ``dark`` for dark paper, ``marker`` as matplotlib names it, ``glyph`` the same shape in text;
    ``place`` is where it stands in legends and tables.
    """

    key: str
    name: str
    explanation: str
    colour: str
    dark: str
    marker: str
    glyph: str
    place: int


_VARIANTS: Mapping[str, tuple[str, str, str, str, str]] = MappingProxyType(
    {  # families that are no compression of their own: marker, glyph, colour on light paper, on dark paper, explanation
        ELASTIC: ("h", "⬢", "#0068a6", "#60b3f1", "expert tokens, one model for every token count"),
        CONTROL: ("P", "✚", "#8e3b87", "#de8fd6", "the experts' layout without a token: the history is hidden"),
        COUNTS_ONLY: ("8", "\N{BLACK SMALL SQUARE}", "#6d28a8", "#c08bf0", "no token, and the counts of the history's items"),
        FULL_CACHED: ("D", "◆", "#c3420d", "#ff8e58", "full attention, the history's keys and values kept"),
        names.PEER: ("H", "\N{HORIZONTAL BLACK HEXAGON}", "#3b3f44", "#c9ced4", "a peer: another library's model, trained by its own code"),
        FLOOR: ("d", "♦", "#5c6670", "#a0aab4", "a baseline that learns nothing"),
    }
)


@functools.lru_cache(maxsize=8192)
def family(one: Configuration) -> Family:
    """The family of a configuration."""
    return _family(kind_of(one.cell), one.cell.compression, one.parts.compression, _title(one))


@functools.lru_cache(maxsize=1024)
def _family(kind: str, compression: str, recorded_part: CompressionPart | None, title: str) -> Family:
    places = _places()
    place = places.get(kind, len(places))
    if kind in _VARIANTS:
        marker, glyph, colour, dark, explanation = _VARIANTS[kind]
        return Family(key=kind, name=title, explanation=explanation, colour=colour, dark=dark, marker=marker, glyph=glyph, place=place)
    plain_look = CompressionPart(name=compression, title=compression, target="", tokens="any", keeps="nothing")
    part = names.compressions().get(compression) or recorded_part or plain_look
    return Family(
        key=kind if _KEY.fullmatch(kind) else f"part-{hashlib.sha256(kind.encode(errors='replace')).hexdigest()[:8]}",
        name=title,
        explanation=part.explanation or compression,
        colour=part.colour if names.COLOUR.fullmatch(part.colour) else plain_look.colour,
        dark=part.dark if names.COLOUR.fullmatch(part.dark) else plain_look.dark,
        marker=part.marker if len(part.marker) == 1 and part.marker in _MARKERS else plain_look.marker,
        glyph=part.glyph if len(part.glyph) == 1 and part.glyph.isprintable() else plain_look.glyph,
        place=place,
    )


@functools.cache
def _places() -> Mapping[str, int]:
    """The order of the families: as compressions are declared, each variant behind its compression, floors last."""
    behind = {"experts": (ELASTIC, CONTROL, COUNTS_ONLY), "full": (FULL_CACHED,)}
    order = [kind for name in names.compressions() for kind in (name, *behind.get(name, ()))]
    return MappingProxyType({kind: place for place, kind in enumerate([*order, names.PEER, FLOOR])})


def families(among: Sequence[Configuration]) -> tuple[Family, ...]:
    """The families of the configurations, in their order."""
    kinds = {family(one).key: family(one) for one in among}
    return tuple(sorted(kinds.values(), key=lambda kind: (kind.place, kind.key)))


def _titles(one: Configuration) -> Titles:
    return _titles_of(tuple(one.parts.all()))


@functools.lru_cache(maxsize=1024)
def _titles_of(parts: tuple[Part, ...]) -> Titles:
    return Titles.of(parts)


def _title(one: Configuration) -> str:
    return _titles(one).kind(one.cell)


def backbone_name(one: Configuration) -> str:
    """The backbone as papers write it."""
    return _titles(one).backbone(one.cell)


def filter_name(one: Configuration) -> str:
    """The backbone by which a filter selects it; floors have none."""
    return "" if one.is_floor else backbone_name(one)


def dataset_name(one: Configuration) -> str:
    """The dataset, and its size where it has one."""
    return _titles(one).dataset(one.cell)


def is_synthetic(one: Configuration) -> bool:
    """Whether its data are a process and no log of people."""
    part = names.datasets().get(one.cell.dataset) or one.parts.dataset
    return part is not None and part.synthetic


def peers_key(one: Configuration) -> tuple[str, ...]:
    """What configurations must share to stand in one figure: dataset, its digest, device and number format."""
    return (dataset_name(one), one.dataset_digest, one.cell.device, one.cell.dtype)


def titles_of(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Titles that tell groups by `peers_key` apart: data, its digest where a name has several, device, and number format if needed."""
    every = list(dict.fromkeys(keys))
    titles = {}
    for key in every:
        data, digest, device, dtype = key
        version = f", data {digest[:8]}" if len({other[1] for other in every if other[0] == data}) > 1 else ""
        number_format = f", {dtype}" if [other[0] for other in every].count(data) > 1 else ""
        titles[key] = f"{data}{version}, {device.upper() if device == 'cpu' else device}{number_format}"
    return titles


def short_titles_of(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The same, by the data alone where that tells them apart."""
    titles = titles_of(keys)
    data = [key[0] for key in titles]
    return {key: title if data.count(key[0]) > 1 else key[0] for key, title in titles.items()}


def in_order(among: Sequence[Configuration]) -> list[Configuration]:
    """Configurations as tables list them: by data, backbone (floors last), window, family, tokens and segments."""

    def place(one: Configuration) -> tuple[Any, ...]:
        numbers = (one.window, family(one).place, one.cell.tokens, one.cell.segments)
        return (dataset_name(one), one.is_floor, one.cell.backbone, *numbers, one.key)

    return sorted(among, key=place)


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """The labels of the configurations of one report (`benchmarks.labels`), and the digest of their data where only that tells them apart.

    A peer's name has `PEER_MARK` behind it. The name of one whose model had not converged ends with `NOT_CONVERGED`.
    """

    long: Mapping[str, str]
    short: Mapping[str, str]

    def __call__(self, one: Configuration) -> str:
        """The full name: ``HSTU · PerSRec, 4 tokens · 224 + 32``."""
        return self.long[one.key]

    def brief(self, one: Configuration) -> str:
        """The name as a figure has room for it: ``HSTU 4 tok``."""
        return self.short[one.key]


def name_all(among: Sequence[Configuration]) -> Names:
    """Names every configuration."""
    labels = Labels.of([one.cell for one in among], [part for one in among for part in one.parts.all()], seeds=False)
    digests: dict[object, set[str]] = {}
    for one in among:
        digests.setdefault(one.cell, set()).add(one.dataset_digest)
    data = {one.key: f" · data {one.dataset_digest[:8]}" if len(digests[one.cell]) > 1 else "" for one in among}
    return Names(
        long=MappingProxyType({one.key: marked(labels(one.cell) + data[one.key], one) for one in among}),
        short=MappingProxyType({one.key: marked(labels.brief(one.cell) + data[one.key], one) for one in among}),
    )


def marked(name: str, *ones: Configuration) -> str:
    """A name of one or several configurations, with its marks: that any is a peer, and that the model of any had not converged."""
    marks = (PEER_MARK * any(one.is_peer for one in ones), NOT_CONVERGED * any(not_converged(one) for one in ones))
    return " ".join(filter(None, (name, *marks)))
