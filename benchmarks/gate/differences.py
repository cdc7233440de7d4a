"""Whether tokens still carry the user: the difference of PerSRec from what it must beat, beside the baseline's. Pure.

A quality alone does not tell a broken method from a sound one on data where the recent items do all the work. So where the baseline
shows that tokens matter, their difference from no token, from another user's tokens and from random ones is gated, on any machine.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.cell import Cell

METRIC = "ndcg@10"
CLEAR = 0.05  # the smallest difference in the baseline that shows that tokens matter there
KEPT = 0.5  # of the baseline's difference: less is a regression
CONTROLS = {"another user's cache": "other_user", "random tokens": "random_tokens"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far a cell's quality is above that of ``other``, which is ``of`` in words; ``now`` is None where a side has no number."""

    key: str
    other: str
    of: str
    then: float
    now: float | None

    @property
    def is_lost(self) -> bool:
        """Whether less of the difference is left than must be."""
        return self.now is not None and self.now < KEPT * self.then

    def reason(self) -> str:
        """What it says, in words."""
        now = "no number" if self.now is None else f"{self.now:+.4f}"
        return f"{METRIC} above {self.of}: {self.then:+.4f} in the baseline, {now} now; expected {KEPT * self.then:+.4f} at least"


def differences(cells: Mapping[str, Cell], then: Mapping[str, float], now: Mapping[str, float]) -> list[Difference]:
    """Every difference that was clear in the baseline.

    Args:
        cells: the baseline's, by key.
        then: NDCG@10 by key, in the baseline.
        now: of the run.
    """
    return [
        Difference(key=key, other=other, of=of, then=then[key] - then[other], now=_above(now, key, other))
        for key, of, other in clear_differences(cells, then)
    ]


def _above(quality: Mapping[str, float], key: str, other: str) -> float | None:
    return quality[key] - quality[other] if key in quality and other in quality else None


def clear_differences(cells: Mapping[str, Cell], then: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    """Of each clear difference: the cell's key, the rival in words, and the rival's key."""
    keys = {cell: key for key, cell in cells.items() if key in then}
    for cell, key in keys.items():
        for of, rival in _rivals(cell):
            other = keys.get(rival)
            if other is not None and then[key] - then[other] >= CLEAR:
                yield key, of, other


def _rivals(cell: Cell) -> Iterator[tuple[str, Cell]]:
    """The cells that one of PerSRec, served from its own tokens, must beat, each with its name in words."""
    if cell.compression != "experts" or cell.tokens < 1 or cell.ablation != "none" or cell.staleness:
        return
    served = replace(cell, serving="cache")  # as the controls are; quality does not depend on how a request is computed
    changes: dict[str, dict[str, Any]] = {of: {"ablation": ablation} for of, ablation in CONTROLS.items()}
    changes = {"no token": {"tokens": 0, "cache_dtype": "float32"}} | changes
    for of, change in changes.items():
        with contextlib.suppress(ValueError):  # an elastic model that does not serve 0 tokens, say, has no such cell
            yield of, replace(served, **change)
