"""Names and traits of every part: backbones, floors, compressions and datasets, and the words that settings take.

A part is its own file and one declaration here, or in an installed package's entry point (group ``persrec.parts``). The
declaration says what others must know before the part is imported: what it keeps, needs and can do, and how a report draws
it. Nothing here imports torch, so that the harness reads it where no model can run.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Literal, TypeVar

from persrec.declarations import ITEM_ENCODERS as ITEM_ENCODERS
from persrec.declarations import LATER_TRAITS as LATER_TRAITS
from persrec.declarations import OPTIONAL_SIZES as OPTIONAL_SIZES
from persrec.declarations import PACKAGE, one_line_of
from persrec.declarations import BackbonePart as BackbonePart
from persrec.declarations import CompressionPart as CompressionPart
from persrec.declarations import DatasetPart as DatasetPart
from persrec.declarations import FloorPart as FloorPart
from persrec.declarations import Part as Part
from persrec.declarations import load as load
from persrec.published import PUBLISHED

ENTRY_POINTS = "persrec.parts"
OWN_TABLES = "persrec.data.tables.own:own_table"

PRECISIONS = ("float32", "bfloat16")  # what a model computes in
CACHE_PRECISIONS = ("float32", "bfloat16", "int8")  # what a cache is stored in; float32 keeps it as it was computed
Kernel = Literal["segmented", "blocks", "naive"]  # how attention is computed; `persrec.nn.attention` chooses by it
LEAVE_ONE_OUT, TEMPORAL = SPLITS = ("leave-one-out", "temporal")  # what is trained on, and which targets test
# all events, or those that others publish on (`persrec.data.named_protocols`), and whether rows read times, that of the request too
OWN_PROTOCOL, PROTOCOLS = "own", MappingProxyType({"own": True, "rectools": True, "5-core": False})
PLANS, EXPERT_STARTS = ("equal", "growing"), ("learnt", "pooled")  # where expert tokens stand, and what they are at first
TRAININGS, SERVINGS = ("separate", "elastic", "none"), ("recompute", "cache", "append")
COUNTS = ("none", "recent", "all")  # of which of a user's own items the output adds counts
DEVICES = ("cpu", "cuda")
CONFIDENCE = 0.95  # of every interval, and of what is said to be sure
INTERVAL = (2.5, 97.5)  # the percentiles that bound it
REPLICATES = 500  # of a bootstrap: how often users are drawn
CUTOFFS = (5, 10, 50, 200)  # of Recall and NDCG
ABLATIONS: Mapping[str, str] = MappingProxyType({
    "none": "as trained", "random_tokens": "random tokens", "shuffled_history": "the history shuffled",
    "other_user": "another user's cache",
})  # fmt: skip

_LLAMA = BackbonePart(
    name="llama",
    title="Llama",
    target="persrec.backbones.llama:build",
    items="mapped_ids",
    takes_weights=True,
    even_heads=True,
    countable=True,
    optional_sizes=("key_value_heads", "feed_forward"),
    slow_imports=("persrec.backbones.llama",),
)
_BACKBONES = (
    BackbonePart(name="hstu", title="HSTU", target="persrec.backbones.hstu:build", reads_times=True, optional_sizes=("divisor",)),
    BackbonePart(name="sasrec", title="SASRec", target="persrec.backbones.sasrec:build", optional_sizes=("feed_forward",)),
    _LLAMA,
    dataclasses.replace(_LLAMA, name="hllm", title="HLLM", items="texts"),  # the same layers over vectors that are read from texts
)
_FLOORS = (
    FloorPart(name="popularity", title="popularity", target="persrec.evaluation.floors:popularity"),
    FloorPart(name="repeat_last", title="repeat last", target="persrec.evaluation.floors:repeat_last"),
    FloorPart(name="frequency", title="frequency", target="persrec.evaluation.floors:frequency"),
)
_COMPRESSIONS = (
    CompressionPart(
        name="experts", title="PerSRec", target="persrec.compression.experts:build", explanation="expert tokens, one model per token count",
        tokens="any", keeps="keys_values", takes_plans=True, takes_elastic=True, takes_elastic_history=True, countable=True,
        colour="#0067a5", dark="#5fb2f0", marker="o", glyph="\N{BLACK CIRCLE}",
    ),
    CompressionPart(
        name="full", title="full history", target="persrec.compression.full:build",
        explanation="full attention over the window, recomputed at each request",
        tokens="none", keeps="keys_values", keeps_without_tokens=True, takes_elastic_history=True, countable=True,
        colour="#c2410c", dark="#ff8d57", marker="s", glyph="\N{BLACK SQUARE}",
    ),
    CompressionPart(
        name="recent", title="recent only", target="persrec.compression.recent:build",
        explanation="a model trained on the recent items alone",
        tokens="none", keeps="nothing", needs_history=False, countable=True,
        colour="#0b7a57", dark="#35c496", marker="^", glyph="\N{BLACK UP-POINTING TRIANGLE}",
    ),
    CompressionPart(
        name="pooling", title="pooling", target="persrec.compression.pooling:build", explanation="means of equal chunks of the history",
        tokens="some", keeps="keys_values", one_segment=True,
        colour="#94690a", dark="#e3b341", marker="v", glyph="\N{BLACK DOWN-POINTING TRIANGLE}",
    ),
    CompressionPart(
        name="category", title="category", target="persrec.compression.category:build", explanation="the history pooled by item category",
        tokens="some", keeps="keys_values", one_segment=True, needs_categories=True,
        colour="#6b7a00", dark="#bccb4a", marker="<", glyph="\N{BLACK LEFT-POINTING TRIANGLE}",
    ),
    CompressionPart(
        name="retrieval", title="retrieval", target="persrec.compression.retrieval:build",
        explanation="the history items nearest to the recent ones",
        tokens="some", keeps="keys_values", one_segment=True, chooses_at_request=True,
        colour="#00747f", dark="#3cc5d2", marker=">", glyph="\N{BLACK RIGHT-POINTING TRIANGLE}",
    ),
    CompressionPart(
        name="memory", title="memory", target="persrec.compression.memory:build", explanation="recurrent memory tokens",
        tokens="some", keeps="vectors", spreads_tokens=False,
        colour="#7a4b2a", dark="#d39c73", marker="p", glyph="\N{BLACK PENTAGON}",
    ),
    CompressionPart(
        name="strided", title="strided", target="persrec.compression.strided:build", explanation="every so many items of the history",
        tokens="some", keeps="keys_values", one_segment=True,
        colour="#5b51c9", dark="#a59df7", marker="*", glyph="\N{BLACK STAR}",
    ),
    CompressionPart(
        name="random", title="random", target="persrec.compression.random:build", explanation="a random sample of the history",
        tokens="some", keeps="keys_values", one_segment=True,
        colour="#a8325e", dark="#f587ab", marker="X", glyph="\N{HEAVY MULTIPLICATION X}",
    ),
)  # fmt: skip
_DATASETS = (
    DatasetPart(name="synthetic", title="synthetic", target="persrec.data.synthetic:build", synthetic=True),
    *(DatasetPart(name=name, title=title, target=f"persrec.data.sources.{build}", needs_files=True) for name, title, build in PUBLISHED),
)
NO_COMPRESSION, PEER = "none", "peer"  # what the cells of a floor and of another library's model say of their compression

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
COLOUR = re.compile(r"#[0-9a-f]{6}")  # of a part, as its declaration and a report write it

AnyPart = TypeVar("AnyPart", bound=Part)


def backbones() -> Mapping[str, BackbonePart]:
    """All backbones by name, those of this package first."""
    return _parts_by_name(BackbonePart, _BACKBONES)


def floors() -> Mapping[str, FloorPart]:
    """All baselines that learn nothing, by name."""
    return _parts_by_name(FloorPart, _FLOORS)


def compressions() -> Mapping[str, CompressionPart]:
    """All compressions by name, those of this package first."""
    return _parts_by_name(CompressionPart, _COMPRESSIONS)


def datasets() -> Mapping[str, DatasetPart]:
    """All datasets by name, those of this package first."""
    return _parts_by_name(DatasetPart, _DATASETS)


def dataset_part(name: str) -> DatasetPart:
    """The declaration of a dataset, or of a table of one's own, which has the name that its TOML gives."""
    return datasets().get(name) or DatasetPart(name=name, title=name, target=OWN_TABLES, needs_files=True, version=_own_version())


def find(parts: Mapping[str, AnyPart], name: str) -> AnyPart:
    """The part called ``name``; a ValueError names the nearest and lists the known where there is none."""
    if name in parts:
        return parts[name]
    kind = next(iter(parts.values())).kind
    raise ValueError(f"{kind}: unknown {name!r}{nearest(name, parts)}; known: {', '.join(parts)}")


def nearest(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'experts'?)``, or nothing where no known name is near."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


@functools.cache
def installed_parts() -> tuple[Part, ...]:
    """The parts of installed packages, each stamped with its distribution and version.

    Raises:
        ValueError: an entry point cannot be loaded, or is no declaration; the message names the package.
    """
    parts: list[Part] = []
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist is not None else "unknown"
        try:
            part = entry.load()
        except Exception as error:
            raise ValueError(f"entry point {entry.name!r} of {package}: {entry.value} cannot be loaded: {one_line_of(error)}") from error
        if not isinstance(part, Part):
            actual = f"{entry.value} is {type(part).__name__}"
            raise ValueError(f"entry point {entry.name!r} of {package}: {actual}; expected a part's declaration")  # noqa: TRY004 - input
        fault = _fault_in(part)
        if fault:
            raise ValueError(f"entry point {entry.name!r} of {package}: {fault}")
        version = entry.dist.version if entry.dist is not None else ""
        parts.append(dataclasses.replace(part, package=package, version=version))
    return tuple(parts)


def _fault_in(part: Part) -> str:
    """What in a declaration no command could ask for or no report could show; empty where nothing is wrong."""
    bad_field = next((name for name in ("name", "title", "target", "explanation") if not isinstance(getattr(part, name), str)), None)
    if bad_field is not None:
        return f"{bad_field}: {getattr(part, bad_field)!r}; expected text"
    own_parts: Iterable[Part] = {"compression": _COMPRESSIONS, "dataset": _DATASETS}.get(part.kind, (*_BACKBONES, *_FLOORS))
    if not _NAME.fullmatch(part.name):
        return f"name: {part.name!r}; expected letters, digits, '-', '_' and '.', the first a letter or a digit"
    if part.name in ([NO_COMPRESSION, PEER] if part.kind == "compression" else [own_part.name for own_part in own_parts]):
        return f"{part.kind} {part.name!r}: the name is taken by {PACKAGE}"
    if part.title in [own_part.title for own_part in own_parts if own_part.name != part.name] or not part.title.strip():
        return f"title: {part.title!r}; expected one that tells it from the parts of {PACKAGE}"
    if isinstance(part, CompressionPart):
        for name in ("colour", "dark"):
            if not COLOUR.fullmatch(str(getattr(part, name))):
                return f"{name}: {getattr(part, name)!r}; expected '#' and six lower-case hexadecimal digits"
    return ""


@functools.cache
def _own_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _parts_by_name(kind: type[AnyPart], own_parts: tuple[AnyPart, ...]) -> Mapping[str, AnyPart]:
    parts = {part.name: dataclasses.replace(part, version=_own_version()) for part in own_parts}
    for part in installed_parts():
        if isinstance(part, kind):
            if part.name in parts:
                raise ValueError(f"{part.kind} {part.name!r} of {part.package}: the name is taken by {parts[part.name].package}")
            parts[part.name] = part
    return MappingProxyType(parts)
