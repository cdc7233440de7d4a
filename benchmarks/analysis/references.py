"""What a configuration is held against: full attention, the layout without tokens, the recent items alone."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference, recovered, retention
from benchmarks.cell import Cell

_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell))


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
class Contrast:
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
    """Whether ``other``, served as it was trained, learnt as ``one`` did on the same data (`Configuration.shared`)."""
    return other.shared == one.shared and not other.changed


def find_references(one: Configuration, among: Sequence[Configuration]) -> References:
    """The cells of the same model, losses and data that a configuration is held against.

    A cell that was measured goes before one that was not, one trained as ``separate`` before others (an untrained one where
    ``one`` itself is untrained), then the one whose other settings differ least.
    """
    same = [other for other in among if comparable(one, other)]
    wanted = "none" if one.cell.training == "none" else "separate"

    def nearest(candidates: Iterable[Configuration]) -> Configuration | None:
        return min(candidates, key=lambda c: (not c.measured, c.cell.training != wanted, _differing(one, c), c.key), default=None)

    full = [other for other in same if other.cell.compression == "full" and other.window == one.window]
    return References(
        full=nearest(other for other in full if other.cell.serving == "recompute"),
        full_cached=nearest(other for other in full if other.cell.serving == "cache"),
        no_token=nearest(other for other in same if other.is_control and _layout(other) == _layout(one)),
        recent=nearest(other for other in same if other.cell.compression == "recent" and other.cell.recent == one.cell.recent),
    )


def untouched(one: Configuration, among: Sequence[Configuration]) -> Configuration | None:
    """The same model served from its own fresh cache as computed; ``None`` where the run has no such cell."""
    return next((other for other in among if other.served_from == one.served_from and not other.changed), None)


def contrasted(among: Sequence[Configuration]) -> list[Configuration]:
    """Those worth holding against the references: all that learn something, controls and full history among them."""
    return [one for one in among if not one.is_floor and one.quality(QUALITY_METRICS[0]).value is not None]


def full_against_no_token(among: Sequence[Configuration], metric: str) -> list[Contrast]:
    """One comparison per control that has a full-history reference: does the long history pay at all?"""
    contrasts = [compare(one, among, metric) for one in among if one.is_control]
    return [contrast for contrast in contrasts if contrast.full_over_no_token.value is not None]


def compare(one: Configuration, among: Sequence[Configuration], metric: str) -> Contrast:
    """A configuration beside its references on one metric."""
    references = find_references(one, among)
    ours = one.quality(metric)
    full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
    no_token = reference_quality(references.no_token, metric, "no cell of this layout without tokens")
    recent = reference_quality(references.recent, metric, "no cell trained on the recent items alone")
    return Contrast(
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


def _layout(one: Configuration) -> tuple[object, ...]:
    return one.cell.history, one.cell.recent, one.cell.segments, one.offsets


def _differing(one: Configuration, other: Configuration) -> int:
    return sum(getattr(one.cell, name) != getattr(other.cell, name) for name in _SETTINGS)
