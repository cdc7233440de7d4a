"""How configurations are named and drawn: a family per way of keeping the history, the same colour and shape everywhere.

Colour tells the compression and shape the family, so neither is needed to read the other; fill and line style tell the backbone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.analysis.configurations import Configuration
from benchmarks.cell import PLANS


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One way of keeping the history; ``colour`` for light paper and ``dark`` for dark paper, ``marker`` as matplotlib names it."""

    key: str
    name: str
    explanation: str
    colour: str
    dark: str
    marker: str


_TABLE = (  # key, name, marker, colour on light paper, on dark paper, explanation
    ("experts", "PerSRec", "o", "#0067a5", "#5fb2f0", "expert tokens, one model per token count"),
    ("experts-elastic", "PerSRec, elastic", "h", "#0068a6", "#60b3f1", "expert tokens, one model for every token count"),
    ("control", "no token", "P", "#8e3b87", "#de8fd6", "the experts' layout without a token: the history is hidden"),
    ("full", "full history", "s", "#c2410c", "#ff8d57", "full attention over the window, recomputed at each request"),
    ("full-cached", "full history, KV cache", "D", "#c3420d", "#ff8e58", "full attention, the history's keys and values kept"),
    ("recent", "recent only", "^", "#0b7a57", "#35c496", "a model trained on the recent items alone"),
    ("pooling", "pooling", "v", "#94690a", "#e3b341", "means of equal chunks of the history"),
    ("category", "category", "<", "#6b7a00", "#bccb4a", "the history pooled by item category"),
    ("retrieval", "retrieval", ">", "#00747f", "#3cc5d2", "the history items nearest to the recent ones"),
    ("memory", "memory", "p", "#7a4b2a", "#d39c73", "recurrent memory tokens"),
    ("strided", "strided", "*", "#5b51c9", "#a59df7", "every so many items of the history"),
    ("random", "random", "X", "#a8325e", "#f587ab", "a random sample of the history"),
    ("floor", "floor", "d", "#5c6670", "#a0aab4", "a baseline that learns nothing"),
)
_FAMILIES = tuple(
    Family(key=key, name=name, marker=marker, colour=colour, dark=dark, explanation=explanation)
    for key, name, marker, colour, dark, explanation in _TABLE
)
FAMILIES: Mapping[str, Family] = MappingProxyType({family.key: family for family in _FAMILIES})

GLYPHS: Mapping[str, str] = MappingProxyType(
    dict(zip((family.marker for family in _FAMILIES), "●⬢✚■◆▲▼◀▶⬟★✖♦", strict=True)),
)  # the same shapes in text

LINE_STYLES = ("-", "--", ":", "-.")
FILLS = ("full", "none", "left", "bottom")

BACKBONES = MappingProxyType({"hstu": "HSTU", "sasrec": "SASRec", "llama": "Llama", "hllm": "HLLM"})
FLOORS = MappingProxyType({"popularity": "popularity", "repeat_last": "repeat last", "frequency": "frequency"})


ABLATIONS = MappingProxyType(
    {"random_tokens": "random tokens", "shuffled_history": "the history shuffled", "other_user": "another user's cache"}
)


def family(one: Configuration) -> Family:
    """The family of a configuration; a compression that is not known here is drawn as a floor is, under its own name."""
    if one.is_floor:
        return FAMILIES["floor"]
    if one.is_control:
        return FAMILIES["control"]
    compression = str(one["compression"])
    if compression == "experts":
        return FAMILIES["experts-elastic" if one["training"] == "elastic" else "experts"]
    if compression == "full":
        return FAMILIES["full-cached" if one["serving"] == "cache" else "full"]
    return FAMILIES.get(compression) or Family(
        key="other", name=compression, explanation=compression, colour="#5d6771", dark="#a1abb5", marker="H"
    )


def backbone_name(one: Configuration) -> str:
    """The backbone as papers write it."""
    name = str(one["backbone"])
    return BACKBONES.get(name) or FLOORS.get(name) or name


def filter_name(one: Configuration) -> str:
    """The backbone a filter knows it by; floors have none."""
    return "" if one.is_floor else backbone_name(one)


def dataset_name(one: Configuration) -> str:
    """The dataset and the size of it, where it has one."""
    size = one.settings.get("dataset_size")
    return f"{one['dataset']} ({size})" if size else str(one["dataset"])


def context_key(one: Configuration) -> tuple[str, ...]:
    """What configurations share whose numbers may stand in one figure: dataset, its digest, device and number format."""
    return (dataset_name(one), one.dataset_digest, str(one["device"]), str(one["dtype"]))


def family_place(one: Configuration) -> int:
    """The place of its family in legends and tables."""
    return list(FAMILIES).index(key) if (key := family(one).key) in FAMILIES else len(FAMILIES)


def in_order(among: Sequence[Configuration]) -> list[Configuration]:
    """Configurations as tables list them: by data, backbone (floors last), window, family, tokens and segments."""

    def place(one: Configuration) -> tuple[Any, ...]:
        numbers = (one.window, family_place(one), int(one["tokens"]), int(one["segments"]))
        return (dataset_name(one), one.is_floor, str(one["backbone"]), *numbers, one.key)

    return sorted(among, key=place)


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Names that tell the configurations of one report apart and say no more than that."""

    long: Mapping[str, str]
    short: Mapping[str, str]

    def __call__(self, one: Configuration) -> str:
        """The full name: ``HSTU · PerSRec, 4 tokens · 224 + 32``."""
        return self.long[one.key]

    def brief(self, one: Configuration) -> str:
        """The name as a figure has room for it: ``HSTU 4 tok``."""
        return self.short[one.key]


def name_all(among: Sequence[Configuration]) -> Names:
    """Names every configuration; settings that all share are left out, those that part two namesakes are added."""
    trained = [one for one in among if not one.is_floor]
    several = {
        "backbone": len({one["backbone"] for one in trained}) > 1,
        "window": len({(one["history"], one["recent"]) for one in trained}) > 1,
        "training": len({one["training"] for one in trained if one["compression"] == "experts"}) > 1,
        "dataset": len({(dataset_name(one), one.dataset_digest) for one in among}) > 1,
    }
    long = _told_apart(among, {one.key: _long(one, several) for one in among})
    short = _told_apart(among, {one.key: _short(one, several) for one in among})
    return Names(long=MappingProxyType(long), short=MappingProxyType(short))


def _long(one: Configuration, several: Mapping[str, bool]) -> str:
    parts = [backbone_name(one)]
    if not one.is_floor:
        parts.append(_family_and_tokens(one))
        if several["window"]:
            parts.append(_window(one))
    if several["dataset"]:
        parts.append(dataset_name(one))
    return " · ".join(parts)


def _family_and_tokens(one: Configuration) -> str:
    text = family(one).name
    if one["tokens"]:
        text += f", {one['tokens']} token{'s' if one['tokens'] != 1 else ''}"
    elif one.is_control and one["training"] == "elastic":
        text += ", elastic"
    if int(one["segments"]) > 1:
        text += f" in {one['segments']} {'growing ' if one['plan'] == 'growing' else ''}segments"
    return ", ".join([text, *_plan_and_changes(one)])


def _plan_and_changes(one: Configuration) -> list[str]:
    """Where its tokens stand, if that takes words, and what it is served from other than its own fresh cache."""
    parts = [] if one["plan"] in PLANS else [f"at {one['plan']}"]
    if one["ablation"] != "none":
        parts.append(ABLATIONS[str(one["ablation"])])
    if one["staleness"]:
        parts.append(f"{one['staleness']} items old")
    if one["cache_dtype"] != "float32":
        parts.append(f"{one['cache_dtype']} cache")
    return parts


def _window(one: Configuration) -> str:
    return f"0 + {one['recent']}" if one["compression"] == "recent" and not one["history"] else f"{one['history']} + {one['recent']}"


_BRIEF = MappingProxyType({"full": "full", "full-cached": "full KV", "control": "no token", "recent": "recent"})


def _short(one: Configuration, several: Mapping[str, bool]) -> str:
    parts = [backbone_name(one)] if several["backbone"] or one.is_floor else []
    if not one.is_floor:
        kind = family(one)
        if kind.key.startswith("experts"):
            text = f"{one['tokens']} tok"
        elif one["tokens"]:
            text = f"{kind.name} {one['tokens']}"
        else:
            text = _BRIEF.get(kind.key, kind.name)
        if int(one["segments"]) > 1:
            text += f"/{one['segments']} {'growing ' if one['plan'] == 'growing' else ''}seg"
        text = " ".join([text, *_plan_and_changes(one)])
        if several["training"] and one["training"] == "elastic":
            text += " el."
        parts.append(text)
        if several["window"]:
            parts.append(f"@{one['history']}")
    if several["dataset"]:
        parts.append(f"[{dataset_name(one)}]")
    return " ".join(parts)


def _told_apart(among: Sequence[Configuration], names: dict[str, str]) -> dict[str, str]:
    """Adds to the names that several configurations share the settings in which these differ."""
    sharing: dict[str, list[Configuration]] = {}
    for one in among:
        sharing.setdefault(names[one.key], []).append(one)
    for name, namesakes in sharing.items():
        if len(namesakes) == 1:
            continue
        differing = [field for field in namesakes[0].settings if len({str(one.settings.get(field)) for one in namesakes}) > 1]
        for one in namesakes:
            added = [f"{field.replace('_', ' ')} {one.settings.get(field)}" for field in differing]
            if len({other.dataset_digest for other in namesakes}) > 1:
                added.append(f"data {one.dataset_digest[:8]}")
            names[one.key] = f"{name} · {', '.join(added)}" if added else name
    return names
