"""Names and traits of every part: backbones, floors, compressions and datasets, and the words that settings take.

A part is its own file and one declaration here, or in an installed package's entry point (group ``persrec.parts``). The
declaration says what others must know before the part is imported: what it keeps, needs and can do, and how a report draws
it. Nothing here imports torch, so that the harness reads it where no model can run.
"""

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

from persrec.published import PUBLISHED

ENTRY_POINTS = "persrec.parts"
PACKAGE = "persrec"
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
CUTOFFS = (5, 10, 50, 200)  # of Recall and NDCG
ABLATIONS: Mapping[str, str] = MappingProxyType({
    "none": "as trained", "random_tokens": "random tokens", "shuffled_history": "the history shuffled",
    "other_user": "another user's cache",
})  # fmt: skip
OPTIONAL_SIZES = ("key_value_heads", "feed_forward", "divisor")  # sizes that some backbones alone have
ITEM_ENCODERS: Mapping[str, str] = MappingProxyType(
    {"ids": "persrec.items.ids:build", "mapped_ids": "persrec.items.ids:build_mapped", "texts": "persrec.items.texts:build"}
)
TOKENS, KEEPS = ("none", "some", "any"), ("nothing", "keys_values", "vectors")

LATER_TRAITS: Mapping[str, Any] = MappingProxyType({"takes_elastic_history": False})  # what a record that does not name them had
LOOKS = ("title", "explanation", "colour", "dark", "marker", "glyph")  # how a part is shown; no number depends on them


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What every declaration says.

    Attributes:
        name: as grids and command lines write it.
        title: as reports write it.
        target: ``module:function`` that builds it; imported when it is built, not before.
        explanation: what it is, for a report's legend.
        package: the distribution that it comes from.
        version: of that distribution; "" where it is not installed as one.
    """

    kind: ClassVar[str] = "part"

    name: str
    title: str
    target: str
    explanation: str = ""
    package: str = PACKAGE
    version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The declaration as a record keeps it, without traits that came later (`LATER_TRAITS`) and are as they were then."""
        traits = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "kind": self.kind,
            **{name: value for name, value in traits.items() if name not in LATER_TRAITS or value != LATER_TRAITS[name]},
        }

    def numbers(self) -> dict[str, Any]:
        """The declaration without what is only shown: what may change a number.

        Traits at their defaults are left out, so that a trait that is added later ages no number.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        numbers = {name: value for name, value in self.to_dict().items() if name not in (*LOOKS, "version")}
        return {name: value for name, value in numbers.items() if name == "package" or value != defaults.get(name, dataclasses.MISSING)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A declaration from a record; a field that is not known here is left out.

        Raises:
            ValueError: a field is missing or is of another kind of part.
        """
        if values.get("kind", cls.kind) != cls.kind:
            raise ValueError(f"kind: {values.get('kind')!r}; expected {cls.kind!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in known
        }
        try:
            return cls(**settings)
        except TypeError as error:
            raise ValueError(f"{cls.kind}: {error}") from error

    def load(self) -> Any:
        """What ``target`` names, imported now.

        Raises:
            ValueError: there is no such module or no such name in it.
        """
        package = "" if self.package == PACKAGE else f" of {self.package}"
        return load(self.target, f"{self.kind} {self.name!r}{package}")

    def _check(self, field: str, values: Iterable[str], known: Iterable[str]) -> None:
        for value in values:
            if value not in known:
                raise ValueError(f"{self.kind} {self.name!r}: {field}: {value!r}; expected {', '.join(known)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackbonePart(Part):
    """A sequence model; ``target(BackboneSettings)`` gives a `persrec.backbones.Backbone`.

    Attributes:
        items: where its item vectors come from, of `ITEM_ENCODERS`.
        optional_sizes: those of `OPTIONAL_SIZES` that it has.
        takes_weights: whether it can start from a folder of Hugging Face's form.
        even_heads: whether a head's width must be even, as rotary positions want it.
        reads_times: whether the times of items change its numbers.
        countable: whether its costs can be counted on weights without storage.
        slow_imports: modules that take seconds to import, for a process that starts many others.
    """

    kind: ClassVar[str] = "backbone"

    items: str = "ids"
    optional_sizes: tuple[str, ...] = ()
    takes_weights: bool = False
    even_heads: bool = False
    reads_times: bool = False
    countable: bool = False
    slow_imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check("items", (self.items,), ITEM_ENCODERS)
        self._check("optional_sizes", self.optional_sizes, OPTIONAL_SIZES)


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorPart(Part):
    """A baseline that learns nothing; ``target(train_counts, past)`` gives scores, as `persrec.evaluation.floors` says."""

    kind: ClassVar[str] = "floor"


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionPart(Part):
    """A way to keep a history; ``target(CompressionSettings)`` gives a `persrec.compression.base.Compression`.

    Attributes:
        tokens: how many tokens a cell of it may ask for, of `TOKENS`: ``some`` is 1 or more, 0 of ``any`` hides the history.
        keeps: what of a user is kept between requests, of `KEEPS`.
        keeps_without_tokens: whether something is kept with 0 tokens.
        needs_history: whether it reads the items before the recent ones.
        one_segment: whether it takes the history as a whole.
        spreads_tokens: whether tokens are spread evenly over the segments.
        takes_plans: whether its tokens can stand at places of one's own.
        takes_elastic: whether one model can serve every token count.
        takes_elastic_history: whether one model can serve every length of the history, since slots without an item change nothing.
        countable: whether its cost depends on shapes alone.
        needs_categories: whether items need a category.
        chooses_at_request: whether it looks at the recent items before it takes of the history, so that nothing can be kept.
        colour: on light paper.
        dark: the same on dark paper.
        marker: its shape, as matplotlib names it.
        glyph: the same shape in text.
    """

    kind: ClassVar[str] = "compression"

    tokens: str
    keeps: str
    keeps_without_tokens: bool = False
    needs_history: bool = True
    one_segment: bool = False
    spreads_tokens: bool = True
    takes_plans: bool = False
    takes_elastic: bool = False
    takes_elastic_history: bool = False
    countable: bool = False
    needs_categories: bool = False
    chooses_at_request: bool = False
    colour: str = "#5d6771"
    dark: str = "#a1abb5"
    marker: str = "H"
    glyph: str = "\N{BLACK HEXAGON}"

    def __post_init__(self) -> None:
        self._check("tokens", (self.tokens,), TOKENS)
        self._check("keeps", (self.keeps,), KEEPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPart(Part):
    """A source of interactions; ``target()`` gives a `persrec.data.base.Dataset`.

    Attributes:
        needs_files: whether the data folder must hold a publisher's files.
        synthetic: whether it is a process with a known ceiling.
    """

    kind: ClassVar[str] = "dataset"

    needs_files: bool = False
    synthetic: bool = False


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
    *(DatasetPart(name=name, title=title, target=f"persrec.data.sources.{at}", needs_files=True) for name, title, at in PUBLISHED),
)
NO_COMPRESSION = "none"  # what a floor's cell says of its compression

AnyPart = TypeVar("AnyPart", bound=Part)


def backbones() -> Mapping[str, BackbonePart]:
    """All backbones by name, those of this package first."""
    return _declared(BackbonePart, _BACKBONES)


def floors() -> Mapping[str, FloorPart]:
    """All baselines that learn nothing, by name."""
    return _declared(FloorPart, _FLOORS)


def compressions() -> Mapping[str, CompressionPart]:
    """All compressions by name, those of this package first."""
    return _declared(CompressionPart, _COMPRESSIONS)


def datasets() -> Mapping[str, DatasetPart]:
    """All datasets by name, those of this package first."""
    return _declared(DatasetPart, _DATASETS)


def dataset_part(name: str) -> DatasetPart:
    """The declaration of a dataset, or of a table of one's own, which has the name that its TOML gives."""
    return datasets().get(name) or DatasetPart(name=name, title=name, target=OWN_TABLES, needs_files=True, version=_own_version())


def find(parts: Mapping[str, AnyPart], name: str) -> AnyPart:
    """The part called ``name``; a ValueError names the nearest and lists the known where there is none."""
    if name in parts:
        return parts[name]
    kind = next(iter(parts.values())).kind
    raise ValueError(f"{kind}: unknown {name!r}{nearest(name, parts)}; known: {', '.join(parts)}")


def load(target: str, owner: str) -> Any:
    """What ``module:name`` names, imported now.

    Args:
        target: the module and a name in it.
        owner: whose target it is, for the message.

    Raises:
        ValueError: there is no such module or no such name in it.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module that somebody else wrote fails in any way
        raise ValueError(f"{owner}: {target} cannot be loaded: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
            raise ValueError(f"entry point {entry.name!r} of {package}: {entry.value} cannot be loaded: {_one_line(error)}") from error
        if not isinstance(part, Part):
            came = f"{entry.value} is {type(part).__name__}"
            raise ValueError(f"entry point {entry.name!r} of {package}: {came}; expected a part's declaration")  # noqa: TRY004 - input
        version = entry.dist.version if entry.dist is not None else ""
        parts.append(dataclasses.replace(part, package=package, version=version))
    return tuple(parts)


@functools.cache
def _own_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _declared(kind: type[AnyPart], own: tuple[AnyPart, ...]) -> Mapping[str, AnyPart]:
    parts = {part.name: dataclasses.replace(part, version=_own_version()) for part in own}
    for part in installed_parts():
        if isinstance(part, kind):
            if part.name in parts:
                raise ValueError(f"{part.kind} {part.name!r} of {part.package}: the name is taken by {parts[part.name].package}")
            parts[part.name] = part
    return MappingProxyType(parts)
