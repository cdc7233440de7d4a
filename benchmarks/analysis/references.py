"""What a configuration is held against: full attention, the layout without tokens, the recent items alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, difference, recovered, retention
from benchmarks.cell import DEFAULTS, EVALUATION_FIELDS

_SAME_MODEL = (  # and what is learnt by it; rates, epochs and temperature may be each compression's own
    "backbone", "dataset", "dataset_size", "layers", "heads", "width", "key_value_heads", "feed_forward", "time_bias", "device", "dtype",
    "copying_start", "recent_weight", "moving_windows", "item_learning_rate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class References:
    """What a configuration is held against; ``None`` where the run has no such cell."""

    full: Configuration | None
    full_cached: Configuration | None
    no_token: Configuration | None
    recent: Configuration | None

    @property
    def full_quality(self) -> Configuration | None:
        """Full attention over the window; how it is served does not change what it ranks."""
        return self.full or self.full_cached


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """One configuration beside its references, on one metric."""

    configuration: Configuration
    references: References
    metric: str
    quality: Estimate
    over_no_token: Estimate
    over_full: Estimate
    over_recent: Estimate
    full_over_no_token: Estimate
    retention: Estimate
    recovered: Estimate


def comparable(one: Configuration, other: Configuration) -> bool:
    """Whether ``other``, served as it was trained, is of the same model, losses and data: what it keeps of a history may differ."""
    return other.dataset_digest == one.dataset_digest and not other.changed and all(other[name] == one[name] for name in _SAME_MODEL)


def find_references(one: Configuration, among: Sequence[Configuration]) -> References:
    """The cells of the same model, losses and data that a configuration is held against.

    A cell that was measured goes before one that was not, one trained as ``separate`` before others (an untrained one where
    ``one`` itself is untrained), then the one whose other settings differ least.
    """
    same = [other for other in among if comparable(one, other)]
    wanted = "none" if one["training"] == "none" else "separate"

    def nearest(candidates: Iterable[Configuration]) -> Configuration | None:
        return min(candidates, key=lambda c: (not c.measured, c["training"] != wanted, _differing(one, c), c.key), default=None)

    full = [other for other in same if other["compression"] == "full" and other.window == one.window]
    plan = ("history", "recent", "segments")
    return References(
        full=nearest(other for other in full if other["serving"] == "recompute"),
        full_cached=nearest(other for other in full if other["serving"] == "cache"),
        no_token=nearest(
            other for other in same if other.is_control and other.offsets == one.offsets and all(other[name] == one[name] for name in plan)
        ),
        recent=nearest(other for other in same if other["compression"] == "recent" and other["recent"] == one["recent"]),
    )


def untouched(one: Configuration, among: Sequence[Configuration]) -> Configuration | None:
    """The same model served from its own fresh cache as computed; ``None`` where the run has no such cell."""
    as_it_is = {**one.settings, **{name: DEFAULTS[name] for name in EVALUATION_FIELDS}}
    return next((other for other in among if other.dataset_digest == one.dataset_digest and other.settings == as_it_is), None)


def compare(one: Configuration, among: Sequence[Configuration], metric: str) -> Comparison:
    """A configuration beside its references on one metric."""
    references = find_references(one, among)
    ours = one.quality(metric)
    full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
    no_token = reference_quality(references.no_token, metric, "no cell of this layout without tokens")
    recent = reference_quality(references.recent, metric, "no cell trained on the recent items alone")
    return Comparison(
        configuration=one,
        references=references,
        metric=metric,
        quality=ours,
        over_no_token=difference(ours, no_token),
        over_full=difference(ours, full),
        over_recent=difference(ours, recent),
        full_over_no_token=difference(full, no_token),
        retention=retention(ours, full),
        recovered=recovered(ours, no_token, full),
    )


def reference_quality(reference: Configuration | None, metric: str, absent: str) -> Estimate:
    """The quality of a reference, or that it is absent and why."""
    return Estimate(value=None, reason=absent) if reference is None else reference.quality(metric)


def _differing(one: Configuration, other: Configuration) -> int:
    return sum(value != other.settings.get(name) for name, value in one.settings.items())
