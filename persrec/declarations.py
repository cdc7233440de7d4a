"""What a declaration of a part says: the traits of backbones, floors, compressions and datasets. Imports no torch.

`persrec.names` holds the declarations of this package's own parts and finds those of others. Import all of this from there.
"""

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

PACKAGE = "persrec"
OPTIONAL_SIZES = ("key_value_heads", "feed_forward", "divisor")  # sizes that some backbones alone have
ITEM_ENCODERS: Mapping[str, str] = MappingProxyType(
    {"ids": "persrec.items.ids:build", "mapped_ids": "persrec.items.ids:build_mapped", "texts": "persrec.items.texts:build"}
)
TOKENS, KEEPS = ("none", "some", "any"), ("nothing", "keys_values", "vectors")

LATER_TRAITS: Mapping[str, Any] = MappingProxyType({"takes_elastic_history": False})  # their values where a record does not name them
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
        field_names = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in field_names
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

    def _check(self, field: str, values: Iterable[str], allowed: Iterable[str]) -> None:
        for value in values:
            if value not in allowed:
                raise ValueError(f"{self.kind} {self.name!r}: {field}: {value!r}; expected {', '.join(allowed)}")


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
        raise ValueError(f"{owner}: {target} cannot be loaded: {one_line_of(error)}") from error


def one_line_of(error: Exception) -> str:
    """An error as a line of a message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
