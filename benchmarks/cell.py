"""A cell: one configuration to measure, and the identity under which its record is kept."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from benchmarks.peers.part import PEERS, check_peer
from benchmarks.settings import CHOICES, LATER_FIELDS, LEAST, OF_EXPERTS, blocks_of
from persrec import names

ELASTIC_FIELDS = ("elastic_tokens", "elastic_history")  # what an elastic model is trained with, in any order
_FLOATS = (
    "learning_rate", "item_learning_rate", "expert_learning_rate", "temperature", "weight_decay", "recent_weight", "expert_weight",
    "distillation", "dropout",
)  # fmt: skip
MOST_SEEDS = 2**63  # what torch and numpy both take


class UnsupportedError(ValueError):
    """The backbone, compression or device cannot do what the cell asks: a finding, not a failure."""


class InvalidMeasurementError(RuntimeError):
    """A number was taken but must not be used: throttling, a foreign process, a ledger that does not add up, a NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Every setting that changes a number.

    A name of a part that is not installed here is taken, so that a record of it can be read; `check_parts` refuses it.
    ``history`` + ``recent`` is the window ``L``. ``tokens`` is the number of vectors a user's history is kept as, over all ``segments``
    together. ``serving`` says what a request costs: ``recompute`` runs the whole window, ``cache`` all recent items against what is kept
    of the history, ``append`` the new item against that and the kept recent items. ``training`` is ``separate`` (a model for this very
    token count), ``elastic`` (one model that was trained with every count of ``elastic_tokens`` and every length of
    ``elastic_history``) or ``none`` (cost alone, and floors). A model that is elastic in history has the layout of the longest; a cell's
    ``history`` says how many of the newest items before the recent ones it sees, and what a request costs.
    ``item_layers`` are those of the Llama that reads item texts, of ``hllm`` alone. ``key_value_heads`` and ``feed_forward`` (the
    width inside the feed-forward) are as the backbone has them where None. ``divisor`` is what HSTU's attention is divided by
    (`persrec.backbones.hstu`).

    ``plan`` says where expert tokens stand: behind ``equal`` segments, behind segments that double in size towards the past (``growing``),
    or at offsets with counts of their own, ``100:2+180:4``. ``cache_dtype``, ``ablation`` and ``staleness`` change what a trained model is
    served from: the precision of what is kept (``float32`` as computed), something else in its place, and by how many items the history
    ends before the recent ones begin.

    ``counts`` says of which of a user's own items the output adds counts (`persrec.counting`); the history's are kept beside its cache.
    ``expert_start`` says what expert tokens are before the first layer (`persrec.compression.experts`).
    ``request_time`` says whether a backbone that reads times is told when a request comes; without, it knows the times of its items alone.
    ``protocol`` says on which events it trains and ranks, all or those of a published protocol (`persrec.data.named_protocols`).

    Settings of training are as in `persrec.training.Recipe`, by ``world_size`` processes; ``targets_per_step`` None is as many as
    ``batch_size`` windows have items.

    ``control`` also times full attention of the same shape in the same process, in turn. Of cost alone, ``catalogue`` is how many items
    are scored (None: the data's), and ``counted_only`` counts FLOPs and bytes of a Llama whose weights have no storage, and runs nothing.
    """

    backbone: str
    compression: str
    dataset: str = "synthetic"
    dataset_size: str | None = None
    history: int = 224
    recent: int = 32
    segments: int = 1
    tokens: int = 0
    plan: str = "equal"
    serving: str = "cache"
    cache_dtype: str = "float32"
    ablation: str = "none"
    staleness: int = 0
    training: str = "separate"
    elastic_tokens: tuple[int, ...] = ()
    layers: int = 2
    heads: int = 1
    item_layers: int = 1
    width: int = 48
    key_value_heads: int | None = None
    feed_forward: int | None = None
    dropout: float = 0.2
    time_bias: bool = True
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decays: bool = True
    weight_decay: float = 0.0
    temperature: float = 0.05
    negatives: int = 256
    epochs: int = 1
    patience: int = 1
    batch_size: int = 32
    seed: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    control: bool = False
    counted_only: bool = False
    copying_start: bool = False
    recent_weight: float = 0.0
    moving_windows: bool = False
    item_learning_rate: float | None = None
    elastic_history: tuple[int, ...] = ()
    targets_per_step: int | None = None
    recent_weight_steps: int = 1000
    split: str = names.LEAVE_ONE_OUT
    catalogue: int | None = None
    counts: str = "none"
    request_time: bool = True
    expert_start: str = "learnt"
    expert_learning_rate: float | None = None
    world_size: int = 1
    accumulation: int = 1
    autocast: bool = False
    protocol: str = names.OWN_PROTOCOL
    expert_weight: float = 0.0
    distillation: float = 0.0
    random_cuts: bool = False
    divisor: int | None = None

    def __post_init__(self) -> None:
        for name in _FLOATS:
            if isinstance(getattr(self, name), int):  # 1 and 1.0 are one setting, with one key
                object.__setattr__(self, name, float(getattr(self, name)))
        for name in ELASTIC_FIELDS:
            object.__setattr__(self, name, tuple(sorted(getattr(self, name))))
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name}: unknown {value!r}{names.nearest(value, choices)}; known: {', '.join(choices)}")
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name}: {value} is less than {least}")
        self._check_ranges()
        self._check_plan()
        self._check_elastic()
        self._check_backbone(names.backbones().get(self.backbone))
        compression = names.compressions().get(self.compression)
        if compression is not None:
            self._check_compression(compression)
        if compression is not None or self.is_floor:
            self._check_variant(compression)
        self._check_cost_alone(compression)

    @property
    def data(self) -> tuple[str, str | None, str]:
        """Its dataset, the dataset's size, and the protocol that says which events of it there are."""
        return self.dataset, self.dataset_size, self.protocol

    @property
    def is_floor(self) -> bool:
        """Whether it is a baseline that learns nothing, and so has no model and no cost."""
        return self.compression == names.NO_COMPRESSION

    @property
    def is_peer(self) -> bool:
        """Whether it is another library's model (`benchmarks.peers.part`)."""
        return self.compression == names.PEER

    @property
    def has_quality(self) -> bool:
        """Whether anything is ranked."""
        return self.is_floor or self.training != "none"

    @property
    def token_counts(self) -> tuple[int, ...]:
        """The token counts that its elastic model draws from in training; empty where the model has one count."""
        return self.elastic_tokens if self.training == "elastic" else ()

    @property
    def history_lengths(self) -> tuple[int, ...]:
        """The lengths of the history that its elastic model draws from in training; empty where the model has one length."""
        return self.elastic_history if self.training == "elastic" else ()

    @property
    def model_tokens(self) -> int:
        """Tokens of its model's layout: an elastic model holds its largest count."""
        return max(self.token_counts, default=self.tokens)

    @property
    def model_history(self) -> int:
        """Items of history of its model's layout: an elastic model holds its longest."""
        return max(self.history_lengths, default=self.history)

    @property
    def step_targets(self) -> int:
        """Next-item targets of a training step."""
        return self.targets_per_step or self.batch_size * (self.model_history + self.recent)

    def _check_ranges(self) -> None:
        for name in ("learning_rate", "temperature", "item_learning_rate", "expert_learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: {value}; expected a finite number above 0")
        for name in ("weight_decay", "recent_weight", "expert_weight", "distillation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)}; expected a finite number from 0")
        if self.protocol != names.OWN_PROTOCOL and self.split != names.LEAVE_ONE_OUT:
            raise ValueError(f"protocol: {self.protocol!r} with split {self.split!r}; expected {names.LEAVE_ONE_OUT!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout}; expected 0 to below 1")
        if self.seed >= MOST_SEEDS:
            raise ValueError(f"seed: {self.seed}; expected less than 2^63")
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide the width, {self.width}")
        if self.key_value_heads is not None and self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads: {self.key_value_heads} do not divide the heads, {self.heads}")

    def _check_backbone(self, part: names.BackbonePart | None) -> None:
        if self.is_peer or self.backbone in PEERS:
            check_peer(dataclasses.asdict(self))
            return
        is_floor = self.backbone in names.floors()
        if is_floor != self.is_floor:
            floors = ", ".join(names.floors())
            came = f"{self.compression!r} with backbone {self.backbone!r}"
            raise ValueError(f"compression: {came}; 'none' goes with the floors {floors} and with nothing else")
        for name in ("training", "counts"):
            if is_floor and getattr(self, name) != "none":
                raise ValueError(f"{name}: {getattr(self, name)!r} with backbone {self.backbone!r}, which learns nothing; expected 'none'")
        if not self.request_time and (is_floor or not self.time_bias or (part is not None and not part.reads_times)):
            raise ValueError(
                f"request_time: false with {self.backbone!r} and time_bias {self.time_bias}; expected a model that reads times"
            )
        for name in names.OPTIONAL_SIZES:
            if (value := getattr(self, name)) is None:
                continue
            if is_floor or (part is not None and name not in part.optional_sizes):
                having = ", ".join(other.name for other in names.backbones().values() if name in other.optional_sizes)
                raise ValueError(f"{name}: {value} with backbone {self.backbone!r}; expected one of {having}")
        if part is not None and part.even_heads and self.width % (2 * self.heads):
            raise ValueError(f"width: {self.width} over {self.heads} heads; rotary positions need heads of an even width")

    def _check_plan(self) -> None:
        if self.plan == "equal":
            return
        if self.plan == "growing":
            if (self.history + 1).bit_length() <= self.segments:  # below 2 ** segments - 1, a number that may have no end
                raise ValueError(f"history: {self.history} items do not fill {self.segments} segments of doubling size")
            return
        blocks = blocks_of(self.plan)
        if blocks[-1][0] != self.history:
            raise ValueError(f"plan: {self.plan!r} ends at item {blocks[-1][0]}; expected {self.history}, the history's end")
        counts = (len(blocks), sum(count for _, count in blocks))
        if counts != (self.segments, self.tokens):
            raise ValueError(f"segments, tokens: {self.segments}, {self.tokens} with plan {self.plan!r}; expected {counts[0]}, {counts[1]}")

    def _check_elastic(self) -> None:
        if self.training != "elastic":
            return
        counts, lengths = self.elastic_tokens, self.elastic_history
        if not counts and not lengths:
            raise ValueError("training: 'elastic' with no elastic_tokens and no elastic_history; expected token counts, lengths, or both")
        if counts and (min(counts) < 0 or len(set(counts)) < len(counts)):
            raise ValueError(f"elastic_tokens: {list(counts)}; expected counts that differ, each 0 or more")
        if counts and self.tokens not in counts:
            raise ValueError(f"tokens: {self.tokens} is not among the counts of the elastic model, {list(counts)}")
        if not lengths:
            return
        if lengths[0] < 1 or len(set(lengths)) < len(lengths):
            raise ValueError(f"elastic_history: {list(lengths)}; expected lengths that differ, each 1 item or more")
        if self.history not in lengths:
            raise ValueError(f"history: {self.history} is not among the lengths of the elastic model, {list(lengths)}")
        if self.segments > 1:  # the same items would lie in other segments than those of a model of the shorter history
            raise ValueError(f"segments: {self.segments} with elastic_history {list(lengths)}; expected 1")

    def _check_compression(self, part: names.CompressionPart) -> None:
        came = f"compression {self.compression!r}"
        if part.needs_history and self.history < self.segments:
            raise ValueError(f"history: {self.history} items do not fill {self.segments} segments")
        if self.tokens and part.tokens == "none":
            raise ValueError(f"tokens: {self.tokens} with {came}, which keeps none; expected 0")
        if not self.tokens and part.tokens == "some":
            raise ValueError(f"tokens: 0 with {came}, which keeps nothing then; expected at least 1")
        if self.segments > 1 and part.one_segment:
            raise ValueError(f"segments: {self.segments} with {came}, which takes the history whole; expected 1")
        uneven = [count for count in (self.tokens, *self.token_counts) if count % self.segments]
        if self.plan in names.PLANS and uneven and part.spreads_tokens:
            raise ValueError(f"tokens: {uneven[0]} cannot be spread evenly over {self.segments} segments")
        self._check_serving(part)
        if self.plan != "equal" and (not part.takes_plans or self.training == "elastic"):
            came = "training 'elastic'" if part.takes_plans else came
            raise ValueError(f"plan: {self.plan!r} with {came}; expected 'equal', or experts of a model of their own")
        for name, trait, values in (
            ("elastic_tokens", "takes_elastic", self.token_counts),
            ("elastic_history", "takes_elastic_history", self.history_lengths),
        ):
            if values and not getattr(part, trait):
                raise ValueError(f"{name}: {list(values)} with {came}; expected one of {_having(trait)}")

    def _check_serving(self, part: names.CompressionPart) -> None:
        for name in OF_EXPERTS:
            if (value := getattr(self, name)) != DEFAULTS[name] and not part.takes_plans:
                raise ValueError(f"{name}: {value!r} with compression {part.name!r}, which has no experts; expected {DEFAULTS[name]!r}")
        if self.random_cuts and self.segments == 1:
            raise ValueError("random_cuts: true with segments 1, which end where the recent items begin; expected 2 or more")
        came = f"{self.serving!r} with compression {part.name!r}"
        if self.serving != "recompute" and part.chooses_at_request:
            raise ValueError(f"serving: {came}, which chooses when a request comes; expected 'recompute'")
        if self.serving == "append" and (part.keeps == "nothing" or self.cache_dtype != DEFAULTS["cache_dtype"]):
            raise ValueError(f"serving: {came} and cache_dtype {self.cache_dtype!r}; expected a history that is kept, as computed")

    def _check_variant(self, part: names.CompressionPart | None) -> None:
        """A setting that changes a cache needs a cache, and one that changes a quality needs a quality; a floor has no cache."""
        changed = changed_at_evaluation(self)
        if not changed:
            return
        name, value = next(iter(changed.items()))
        came = f"{name}: {value!r} with compression {self.compression!r}"
        if part is None:
            raise ValueError(f"{came}; expected something kept in a cache")
        keeps = part.keeps != "nothing" and (part.keeps_without_tokens or self.tokens > 0)
        if not keeps or self.serving != "cache":
            nothing = f"tokens {self.tokens}, which keeps nothing" if self.serving == "cache" else f"serving {self.serving!r}"
            raise ValueError(f"{came} and {nothing}; expected something kept in a cache")
        if part.keeps != "keys_values":
            raise ValueError(f"{came}, which keeps {part.keeps}; expected a cache of keys and values")
        if self.training == "none" and set(changed) != {"cache_dtype"}:
            name = next(name for name in changed if name != "cache_dtype")
            raise ValueError(f"{name}: {changed[name]!r} with training 'none', which has no quality to change; expected {DEFAULTS[name]!r}")
        if self.cache_dtype == self.dtype == "bfloat16":
            raise ValueError("cache_dtype: 'bfloat16' with dtype 'bfloat16', which computes it so; expected 'float32', kept as computed")

    def _check_cost_alone(self, compression: names.CompressionPart | None) -> None:
        if self.control and (self.is_floor or not self.history):
            came = f"backbone {self.backbone!r}" if self.is_floor else "history 0"
            raise ValueError(f"control: true with {came}; expected a backbone and a history for full attention to see")
        self._check_catalogue(compression)
        if not self.counted_only:
            return
        backbone = names.backbones().get(self.backbone)
        if self.is_floor or (backbone is not None and not backbone.countable):
            countable = ", ".join(part.name for part in names.backbones().values() if part.countable)
            raise ValueError(f"counted_only: true with backbone {self.backbone!r}, which runs; expected one of {countable}")
        if compression is not None and not compression.countable:
            came = f"compression {self.compression!r}"
            raise ValueError(f"counted_only: true with {came}, which looks at vectors; expected one of {_having('countable')}")
        if self.training != "none":
            raise ValueError(f"counted_only: true with training {self.training!r}, which has to run; expected 'none'")
        if self.cache_dtype != DEFAULTS["cache_dtype"]:
            raise ValueError(f"counted_only: true with cache_dtype {self.cache_dtype!r}; expected 'float32', kept as computed")

    def _check_catalogue(self, compression: names.CompressionPart | None) -> None:
        backbone = names.backbones().get(self.backbone)
        of_data = (backbone is not None and backbone.items == "texts") or (compression is not None and compression.needs_categories)
        if self.catalogue is not None and (self.training != "none" or self.is_floor or of_data):
            came = f"{self.catalogue} with training {self.training!r}, {self.backbone!r} and {self.compression!r}"
            raise ValueError(f"catalogue: {came}; expected cost alone, of parts that read nothing else of the items")

    def to_dict(self) -> dict[str, Any]:
        """The cell as plain JSON values, tuples as lists.

        Settings that came after the first records (`LATER_FIELDS`) are left out where they have the value of that time, so that a record
        keeps its key.
        """
        values = {name: value for name, value in dataclasses.asdict(self).items() if value != LATER_FIELDS.get(name, ...)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The cell of a record.

        Raises:
            ValueError: a setting is unknown; the message lists the known.
        """
        setting_names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(setting_names))
        if unknown:
            raise ValueError(f"{unknown[0]}: no such setting of a cell; known: {', '.join(setting_names)}")
        settings = {**LATER_FIELDS, **values}
        return cls(**settings | {name: tuple(settings[name]) for name in ELASTIC_FIELDS if name in settings})


DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {field.name: field.default for field in dataclasses.fields(Cell) if field.default is not dataclasses.MISSING}
)
EVALUATION_FIELDS = ("cache_dtype", "ablation", "staleness")


def check_parts(cell: Cell) -> None:
    """Refuses a cell of parts that are not installed.

    Raises:
        ValueError: a name is unknown; the message names the nearest and lists the known.
    """
    parts: dict[str, names.Part] = {**PEERS} if cell.is_peer else {**names.backbones(), **names.floors(), **PEERS}
    names.find(parts, cell.backbone)
    if not cell.is_peer and cell.backbone not in names.floors():
        names.find(names.compressions(), cell.compression)


def changed_at_evaluation(cell: Cell) -> dict[str, Any]:
    """The settings of `EVALUATION_FIELDS` that differ from their defaults."""
    return {name: value for name in EVALUATION_FIELDS if (value := getattr(cell, name)) != DEFAULTS[name]}


def _having(trait: str) -> str:
    return ", ".join(part.name for part in names.compressions().values() if getattr(part, trait))
