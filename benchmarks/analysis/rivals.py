"""PerSRec beside its rivals, which keep as many vectors of the same history; recent items in place of the tokens are one of them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import best_on_validation, contrasted, learnt_alike
from benchmarks.analysis.trained import unequal


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RivalPair:
    """PerSRec and one rival at equal tokens over one window; ``gap`` is PerSRec minus it, ``unequal`` why it gives no verdict."""

    persrec: Configuration
    rival: Configuration
    gap: Estimate
    unequal: tuple[str, ...]


def with_rivals(among: Sequence[Configuration]) -> Sequence[tuple[Configuration, list[Configuration]]]:
    """Each PerSRec configuration with a quality that has rivals, and these, in the order of ``among``."""
    return _with_rivals(tuple(among))


@functools.lru_cache(maxsize=8)
def _with_rivals(among: tuple[Configuration, ...]) -> Sequence[tuple[Configuration, list[Configuration]]]:
    every = [(one, rivals_of(one, among)) for one in contrasted(among) if one.is_tokens and not one.changed]
    return [(one, rivals) for one, rivals in every if rivals]


def rivals_of(one: Configuration, among: Sequence[Configuration]) -> list[Configuration]:
    """Those that keep as many vectors of the same window as a PerSRec configuration, in the order of ``among``."""
    rivals = contrasted([other for other in learnt_alike(one, among) if _is_rival(one, other)])
    cached = {other.cell.compression for other in rivals if other.cell.serving == "cache"}
    return [other for other in rivals if other.cell.serving == "cache" or other.cell.compression not in cached]


def rival_pairs(among: Sequence[Configuration], metric: str) -> list[RivalPair]:
    """A pair for each backbone and rival compression: at the longest window and, there, at the most tokens that both have.

    Window and tokens are settings and no result. Of several pairs with these, those of the most seeds count, since one seed tells nothing
    of training anew; among these the best on validation stands for its side.
    """
    groups: dict[tuple[str, str], dict[tuple[int, int], list[tuple[Configuration, Configuration]]]] = {}
    for one, rivals in with_rivals(among):
        for rival in rivals:
            sizes = groups.setdefault((one.cell.backbone, rival.cell.compression), {})
            sizes.setdefault((one.window, one.cell.tokens), []).append((one, rival))
    return [_best_of(sizes[max(sizes)], metric) for _, sizes in sorted(groups.items())]


def _best_of(pairs: Sequence[tuple[Configuration, Configuration]], metric: str) -> RivalPair:
    most = max(_seeds(pair) for pair in pairs)
    candidates = [pair for pair in pairs if _seeds(pair) == most]
    ours = best_on_validation(list(dict.fromkeys(one for one, _ in candidates)))
    theirs = best_on_validation([rival for one, rival in candidates if one is ours])
    if ours is None or theirs is None:
        raise ValueError("no pair of PerSRec and a rival")
    gap = difference(ours.quality(metric), theirs.quality(metric))
    return RivalPair(persrec=ours, rival=theirs, gap=gap, unequal=unequal(ours, theirs))


def _seeds(pair: tuple[Configuration, Configuration]) -> int:
    """Seeds that both sides have."""
    one, rival = (set(side.quality(QUALITY_METRICS[0]).seeds) for side in pair)
    return len(one & rival)


def _is_rival(one: Configuration, other: Configuration) -> bool:
    part = other.parts.compression
    if other.cell.compression in ("experts", "full") or (part is not None and part.chooses_at_request):  # one that chooses then keeps all
        return False
    if other.cell.compression == "recent":
        return bool(other.cell.recent == one.cell.recent + one.cell.tokens)
    return (other.cell.history, other.cell.recent, other.cell.tokens) == (one.cell.history, one.cell.recent, one.cell.tokens)
