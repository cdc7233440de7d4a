"""Metrics of ranks, and their intervals over users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from persrec.names import CONFIDENCE, CUTOFFS, INTERVAL, REPLICATES

Floats = NDArray[np.float64]

LEAST_USERS = 10  # for the interval of a mean that is no share: drawing again and again from fewer tells nothing
_DRAWS_AT_ONCE = 1 << 22  # bounds memory; a chunk's size changes no draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A mean over users and its 95% interval; None where there is no user, or too few for an interval.

    Attributes:
        value: the mean.
        low: lower bound.
        high: upper bound.
        n: users.
        note: why there is no interval, or what it rests on where it is not drawn from the users; else "".
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""


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


def is_single(users: NDArray[np.int64]) -> bool:
    """Whether no user, of ascending ``[n]``, has several targets."""
    return not bool(np.any(users[1:] == users[:-1]))


def user_means(values: Floats, users: NDArray[np.int64]) -> Floats:
    """The mean over each user's targets, in the order of the users.

    Args:
        values: ``[n]``, one a target.
        users: int64 ``[n]``, ascending.
    """
    if is_single(users):
        return values
    _, first, counts = np.unique(users, return_index=True, return_counts=True)
    means: Floats = np.add.reduceat(values, first) / counts
    return means


def bootstrap_means(values: Floats, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Means over users drawn with replacement.

    The draws depend on ``seed`` and the number of users alone. So replicates of two cells over the same users are paired: the
    difference of two replicates is a replicate of the difference.

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
        draws = random.integers(0, n, size=(rows, n))
        draws += np.arange(rows)[:, None] * n
        counts = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(counts.astype(np.float64) @ values / n)
    return np.concatenate(means)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of users, 0 or 1 for each: recall with one target a user is."""
    return metric.startswith("recall@")


def summarise(values: Floats, *, share: bool, replicates: Floats | None = None, seed: int = 0) -> Summary:
    """Mean over users ``[n]`` with its 95% interval.

    The bounds are the 2.5 and 97.5 percentiles of the bootstrap. It draws from these users and knows nothing of others, so a mean
    over few users, or over users who are all alike, would seem certain. Hence:

    * A share is bounded by the wider of the bootstrap and Wilson's interval (J. Am. Stat. Assoc. 22, 1927) on either side.
    * Where all users have one value, others may still differ; of 0 such users among n, Wilson's interval says how large their
      share may be, and their values may be anything from 0 to 1.
    * Another mean than a share has no interval below `LEAST_USERS` users.

    Args:
        values: one metric, ``[n]``, from 0 to 1.
        share: whether each value is 0 or 1, as `is_share` says.
        replicates: `bootstrap_means` of the same values, where they are at hand.
        seed: of the draws otherwise.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        return Summary(value=None, low=None, high=None, n=0, note="no user")
    value = float(values.mean())
    if not share and n < LEAST_USERS:
        return Summary(value=value, low=None, high=None, n=n, note=f"no interval, {n} users are fewer than {LEAST_USERS}")
    if values.min() == values.max():
        _, other_share = wilson(0, n)
        low, high = value * (1 - other_share), value + (1 - value) * other_share
        return Summary(value=value, low=low, high=high, n=n, note=f"interval for {n} users who are all alike, by Wilson")
    means = bootstrap_means(values, seed=seed) if replicates is None else replicates
    low, high = (float(bound) for bound in np.percentile(means, INTERVAL))
    if share:
        wilson_low, wilson_high = wilson(int(np.count_nonzero(values)), n)
        low, high = min(low, wilson_low), max(high, wilson_high)
    return Summary(value=value, low=low, high=high, n=n)


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share, ``count`` of ``n``."""
    interval = binomtest(count, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)
