"""A cell: one configuration to measure, and the identity under which its record is kept."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

BACKBONE_NAMES = ("hstu", "sasrec", "llama", "hllm")
LLAMA_NAMES = ("llama", "hllm")  # their layers are those of Hugging Face transformers
FLOOR_NAMES = ("popularity", "repeat_last", "frequency")
COMPRESSION_NAMES = ("none", "full", "recent", "experts", "pooling", "category", "retrieval", "memory", "strided", "random")
WITHOUT_TOKENS = ("none", "full", "recent")
COUNTABLE = ("full", "recent", "experts")  # what they do depends on shapes alone
IN_ONE_SEGMENT = ("pooling", "category", "retrieval", "strided", "random")  # they take the history as a whole
TRAININGS = ("separate", "elastic", "none")
SERVINGS = ("recompute", "cache")
PLANS = ("equal", "growing")
CACHE_DTYPES = ("float32", "bfloat16", "int8")
ABLATIONS = ("none", "random_tokens", "shuffled_history", "other_user")


class UnsupportedError(ValueError):
    """The backbone, compression or device cannot do what the cell asks: a finding, not a failure."""


class InvalidMeasurementError(RuntimeError):
    """A number was taken but must not be used: throttling, a foreign process, a ledger that does not add up, a NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Every setting that changes a number.

    ``history`` + ``recent`` is the window ``L``. ``tokens`` is the number of vectors a user's history is kept as, over
    all ``segments`` together. ``serving`` says what a request costs: ``recompute`` runs the whole window, ``cache`` runs
    the recent items against what ``compress`` kept. ``training`` is ``separate`` (a model for this very token count),
    ``elastic`` (one model that was trained with every count of ``elastic_tokens``) or ``none`` (cost alone, and floors).
    ``item_layers`` are the layers of the Llama that reads item texts, of ``hllm`` alone; its other sizes are the model's.
    ``key_value_heads`` and ``feed_forward`` (the width inside the feed-forward) are as the backbone has them where None.

    ``plan`` says where expert tokens stand: behind ``equal`` segments, behind segments that double in size towards the past
    (``growing``), or at offsets with counts of their own, ``100:2+180:4``. ``cache_dtype``, ``ablation`` and ``staleness`` change
    what a trained model is served from and nothing of its training: the precision of what is kept (``float32`` keeps it as it
    was computed), something else in its place, and by how many items the history ends before the recent ones begin.

    ``copying_start`` is how the backbone's weights begin, ``recent_weight`` how much more the recent items' loss counts at the end
    of training, ``moving_windows`` whether training's windows end anywhere, ``item_learning_rate`` that of the item vectors where it
    is not the rest's (`persrec.training.Recipe`).

    ``control`` also times full attention of the same shape in the same process, in turn with the cell's own calls. ``counted_only``,
    of cost alone, counts FLOPs and bytes of a Llama whose weights have no storage, and runs nothing.
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

    def __post_init__(self) -> None:
        _one_of("backbone", self.backbone, BACKBONE_NAMES + FLOOR_NAMES)
        _one_of("compression", self.compression, COMPRESSION_NAMES)
        _one_of("training", self.training, TRAININGS)
        _one_of("serving", self.serving, SERVINGS)
        _one_of("cache_dtype", self.cache_dtype, CACHE_DTYPES)
        _one_of("ablation", self.ablation, ABLATIONS)
        for name in (
            "recent",
            "segments",
            "layers",
            "heads",
            "item_layers",
            "width",
            "negatives",
            "epochs",
            "patience",
            "batch_size",
            "threads",
        ):
            _at_least(name, getattr(self, name), 1)
        for name in ("history", "tokens", "seed", "warmup_steps", "staleness"):
            _at_least(name, getattr(self, name), 0)
        _one_of("device", self.device, ("cpu", "cuda"))
        _one_of("dtype", self.dtype, ("float32", "bfloat16"))
        self._check_heads()
        self._check_sizes()
        self._check_plan()
        self._check_variant()
        self._check_cost_alone()

    def _check_heads(self) -> None:
        for name, backbones in (("key_value_heads", LLAMA_NAMES), ("feed_forward", (*LLAMA_NAMES, "sasrec"))):
            value = getattr(self, name)
            if value is not None:
                _at_least(name, value, 1)
                if self.backbone not in backbones:
                    raise ValueError(f"{name}: {value} with backbone {self.backbone!r}; expected one of {', '.join(backbones)}")
        if self.key_value_heads is not None and self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads: {self.key_value_heads} do not divide the heads, {self.heads}")
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide the width, {self.width}")
        if self.backbone in LLAMA_NAMES and self.width % (2 * self.heads):
            raise ValueError(f"width: {self.width} over {self.heads} heads; rotary positions need heads of an even width")

    def _check_sizes(self) -> None:
        if not (
            self.learning_rate > 0 and self.temperature > 0 and self.weight_decay >= 0 and self.recent_weight >= 0 and 0 <= self.dropout < 1
        ):
            raise ValueError(
                "learning_rate, temperature: expected more than 0; weight_decay, recent_weight: 0 or more; dropout: 0 to below 1"
            )
        if self.item_learning_rate is not None and not self.item_learning_rate > 0:
            raise ValueError(f"item_learning_rate: {self.item_learning_rate}; expected more than 0")
        if self.compression not in ("none", "recent") and self.history < self.segments:
            raise ValueError(f"history: {self.history} items do not fill {self.segments} segments")
        if (self.backbone in FLOOR_NAMES) != (self.compression == "none"):
            floors = ", ".join(FLOOR_NAMES)
            came = f"{self.compression!r} with backbone {self.backbone!r}"
            raise ValueError(f"compression: {came}; 'none' goes with the floors {floors} and with nothing else")
        self._check_compression()
        if self.backbone in FLOOR_NAMES and self.training != "none":
            raise ValueError(f"training: {self.training!r} with backbone {self.backbone!r}, which learns nothing; expected 'none'")
        if self.training == "elastic" and self.tokens not in self.elastic_tokens:
            raise ValueError(f"tokens: {self.tokens} is not among the counts of the elastic model, {list(self.elastic_tokens)}")

    def _check_plan(self) -> None:
        if self.plan in PLANS and self.tokens % self.segments and self.compression != "memory":  # which writes all of them anew in each
            raise ValueError(f"tokens: {self.tokens} cannot be spread evenly over {self.segments} segments")
        if self.plan == "equal":
            return
        if self.compression != "experts" or self.training == "elastic":
            came = "training 'elastic'" if self.compression == "experts" else f"compression {self.compression!r}"
            raise ValueError(f"plan: {self.plan!r} with {came}; expected 'equal', or experts of a model of their own")
        if self.plan == "growing":
            if self.history < 2**self.segments - 1:
                raise ValueError(f"history: {self.history} items do not fill {self.segments} segments of doubling size")
            return
        blocks = blocks_of(self.plan)
        if blocks[-1][0] != self.history:
            raise ValueError(f"plan: {self.plan!r} ends at item {blocks[-1][0]}; expected {self.history}, the history's end")
        counts = (len(blocks), sum(count for _, count in blocks))
        if counts != (self.segments, self.tokens):
            raise ValueError(f"segments, tokens: {self.segments}, {self.tokens} with plan {self.plan!r}; expected {counts[0]}, {counts[1]}")

    def _check_variant(self) -> None:
        """What changes a cache needs one, and what changes a quality needs one."""
        changed = changed_at_evaluation(self)
        if not changed:
            return
        name, value = next(iter(changed.items()))
        keeps = self.compression not in ("none", "recent") and (self.compression == "full" or self.tokens > 0)
        if not keeps or self.serving != "cache":
            nothing = f"tokens {self.tokens}, which keeps nothing" if self.serving == "cache" else f"serving {self.serving!r}"
            raise ValueError(f"{name}: {value!r} with compression {self.compression!r} and {nothing}; expected something kept in a cache")
        if self.compression == "memory":
            raise ValueError(f"{name}: {value!r} with compression 'memory', which keeps vectors; expected a cache of keys and values")
        if self.training == "none" and set(changed) != {"cache_dtype"}:
            name = next(name for name in changed if name != "cache_dtype")
            raise ValueError(f"{name}: {changed[name]!r} with training 'none', which has no quality to change; expected {DEFAULTS[name]!r}")
        if self.cache_dtype == self.dtype == "bfloat16":
            raise ValueError("cache_dtype: 'bfloat16' with dtype 'bfloat16', which computes it so; expected 'float32', kept as computed")

    def _check_cost_alone(self) -> None:
        if self.control and (self.backbone in FLOOR_NAMES or not self.history):
            came = f"backbone {self.backbone!r}" if self.backbone in FLOOR_NAMES else "history 0"
            raise ValueError(f"control: true with {came}; expected a backbone and a history for full attention to see")
        if self.counted_only and self.backbone not in LLAMA_NAMES:
            raise ValueError(f"counted_only: true with backbone {self.backbone!r}, which runs; expected one of {', '.join(LLAMA_NAMES)}")
        if self.counted_only and self.compression not in COUNTABLE:
            came = f"compression {self.compression!r}"
            raise ValueError(f"counted_only: true with {came}, which looks at vectors; expected one of {', '.join(COUNTABLE)}")
        if self.counted_only and self.training != "none":
            raise ValueError(f"counted_only: true with training {self.training!r}, which has to run; expected 'none'")
        if self.counted_only and self.cache_dtype != DEFAULTS["cache_dtype"]:
            raise ValueError(f"counted_only: true with cache_dtype {self.cache_dtype!r}; expected 'float32', kept as computed")

    def _check_compression(self) -> None:
        if self.tokens and self.compression in WITHOUT_TOKENS:
            raise ValueError(f"tokens: {self.tokens} with compression {self.compression!r}, which keeps none; expected 0")
        if not self.tokens and self.compression not in (*WITHOUT_TOKENS, "experts"):
            raise ValueError(f"tokens: 0 with compression {self.compression!r}, which keeps nothing then; expected at least 1")
        if self.segments > 1 and self.compression in IN_ONE_SEGMENT:
            raise ValueError(f"segments: {self.segments} with compression {self.compression!r}, which takes the history whole; expected 1")
        if self.serving == "cache" and self.compression == "retrieval":
            raise ValueError("serving: 'cache' with compression 'retrieval', which chooses when a request comes; expected 'recompute'")

    def to_dict(self) -> dict[str, Any]:
        """The cell as plain JSON values, tuples as lists.

        Settings that came after the first records (`LATER_FIELDS`) are left out where they are as by default, so that a record
        keeps its key.
        """
        values = dataclasses.asdict(self)
        for name in LATER_FIELDS:
            if values[name] == DEFAULTS[name]:
                del values[name]
        values["elastic_tokens"] = list(self.elastic_tokens)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The cell of a record.

        Raises:
            ValueError: a setting is unknown; the message lists the known.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{unknown[0]}: no such setting of a cell; known: {', '.join(known)}")
        settings = dict(values)
        if "elastic_tokens" in settings:
            settings["elastic_tokens"] = tuple(settings["elastic_tokens"])
        return cls(**settings)


DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {field.name: field.default for field in dataclasses.fields(Cell) if field.default is not dataclasses.MISSING}
)
LATER_FIELDS = (
    "key_value_heads", "feed_forward", "control", "counted_only", "copying_start", "recent_weight", "moving_windows",
    "item_learning_rate",
)  # fmt: skip
EVALUATION_FIELDS = ("cache_dtype", "ablation", "staleness")
MODEL_FIELDS = (
    "backbone", "compression", "dataset", "dataset_size", "history", "recent", "segments", "tokens", "plan", "training",
    "elastic_tokens", "layers", "heads", "item_layers", "width", "key_value_heads", "feed_forward", "dropout",
    "time_bias", "learning_rate", "warmup_steps", "decays",
    "weight_decay", "temperature", "negatives", "epochs", "patience", "batch_size", "seed", "device", "dtype",
    "threads", "copying_start", "recent_weight", "moving_windows", "item_learning_rate",
)  # fmt: skip


def changed_at_evaluation(cell: Cell) -> dict[str, Any]:
    """The settings of `EVALUATION_FIELDS` that are not as they are by default."""
    return {name: value for name in EVALUATION_FIELDS if (value := getattr(cell, name)) != DEFAULTS[name]}


def blocks_of(plan: str) -> tuple[tuple[int, int], ...]:
    """Offsets and counts of ``100:2+180:4``.

    Raises:
        ValueError: the text is no such list, or its offsets do not rise from above 0.
    """
    parts = [tuple(part.split(":")) for part in plan.split("+")]
    if not all(len(part) == 2 and all(number.isdecimal() for number in part) for part in parts):
        raise ValueError(f"plan: {plan!r}; expected {', '.join(PLANS)}, or offsets with counts such as 100:2+180:4")
    blocks = tuple((int(offset), int(count)) for offset, count in parts)
    offsets = [0, *(offset for offset, _ in blocks)]
    if any(later <= earlier for earlier, later in itertools.pairwise(offsets)):
        raise ValueError(f"plan: {plan!r}; expected offsets that rise from above 0")
    return blocks


def canonical(values: Mapping[str, Any]) -> str:
    """The one JSON text of ``values``: keys sorted, no spaces, floats by ``repr``."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def cell_key(cell: Cell, *, dataset_digest: str, versions: Mapping[str, int]) -> str:
    """The identity the store and the gate match by: every setting, the data, and each measure's version."""
    return digest({"cell": cell.to_dict(), "dataset_digest": dataset_digest, "versions": dict(versions)})


def needs_model(cell: Cell) -> bool:
    """Whether the cell measures a trained model."""
    return cell.training != "none"


def model_key(cell: Cell, *, dataset_digest: str, code_digest: str) -> str:
    """The identity of the trained model that the cell measures; cells of one elastic model share it."""
    settings = {name: value for name, value in cell.to_dict().items() if name in MODEL_FIELDS}
    if cell.training == "elastic":
        del settings["tokens"]
    return digest({"model": settings, "dataset_digest": dataset_digest, "code_digest": code_digest})


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: unknown {value!r}; known: {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}: {value} is less than {least}")
