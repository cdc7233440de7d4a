"""Metrics of ranks, and their intervals over users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CUTOFFS = (5, 10, 50, 200)
REPLICATES = 500
INTERVAL = (2.5, 97.5)  # percentiles
_DRAWS_AT_ONCE = 1 << 22  # bounds memory; a chunk's size changes no draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A mean over users and its bootstrap interval; None where there is no user."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def metric_values(ranks: NDArray[np.int64]) -> dict[str, Floats]:
    """Per user: ``recall@k``, ``ndcg@k`` at 5, 10, 50, 200, and ``mrr`` over the whole catalogue.

    With one target a user, recall is whether its rank is within k, and NDCG is ``1 / log2(rank + 1)`` there, else 0.

    Args:
        ranks: int64 ``[n]``, from 1.

    Raises:
        ValueError: a rank below 1.
    """
    ranks = np.asarray(ranks, dtype=np.int64)
    if len(ranks) and ranks.min() < 1:
        raise ValueError(f"ranks: {int(ranks.min())}; expected 1 or more")
    gain = 1.0 / np.log2(ranks + 1.0)
    recall = {f"recall@{k}": (ranks <= k).astype(np.float64) for k in CUTOFFS}
    ndcg = {f"ndcg@{k}": np.where(ranks <= k, gain, 0.0) for k in CUTOFFS}
    return recall | ndcg | {"mrr": 1.0 / ranks}


def bootstrap_means(values: Floats, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Means over users drawn with replacement.

    Who is drawn depends on ``seed`` and the number of users alone: replicates of two cells over the same users are paired,
    and their difference is one replicate of the difference.

    Args:
        values: ``[n]``, or ``[n, m]`` for m metrics of the same users at once.
        replicates: number of draws.
        seed: of the draws.

    Returns:
        ``[replicates]`` or ``[replicates, m]``.

    Raises:
        ValueError: no users.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        raise ValueError("values: no users to draw from")
    random = np.random.Generator(np.random.PCG64(seed))
    means = []
    chunk = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, replicates, chunk):
        rows = min(chunk, replicates - start)
        drawn = random.integers(0, n, size=(rows, n))
        drawn += np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(counts.astype(np.float64) @ values / n)
    return np.concatenate(means)


def summarise(values: Floats, *, replicates: Floats | None = None, seed: int = 0) -> Summary:
    """Mean over users ``[n]`` with its 2.5 and 97.5 percentile bootstrap bounds.

    Args:
        values: one metric, ``[n]``.
        replicates: `bootstrap_means` of the same values, where they are at hand.
        seed: of the draws otherwise.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        return Summary(value=None, low=None, high=None, n=0)
    means = bootstrap_means(values, seed=seed) if replicates is None else replicates
    low, high = np.percentile(means, INTERVAL)
    return Summary(value=float(values.mean()), low=float(low), high=float(high), n=len(values))
