"""Where a split's test targets were before, and what counters rank with and without the older items."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis.estimates import interval_of
from benchmarks.audit.record import Audit, Counter, Shares
from persrec.data.splits import Sequences, Split
from persrec.evaluation.floors import Floats, Scores, frequency, popularity, ranks_by
from persrec.evaluation.metrics import LEAST_USERS, bootstrap_means, is_share, is_single, metric_values, summarise, user_means

METRICS = ("ndcg@10", "recall@10")
BOOTSTRAP_SEED = 0

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where each target's item was before it, ``[E]`` booleans; the rest are new to their users."""

    recent: NDArray[np.bool_]
    older: NDArray[np.bool_]

    @classmethod
    def of(cls, past: Sequences, targets: Ints, recent: int) -> "Places":
        """Looks through every past once.

        Args:
            past: the events before each target.
            targets: ``[E]``.
            recent: how many of the last events are recent.
        """
        rows = np.repeat(np.arange(len(targets)), past.lengths)
        hits = past.items == targets[rows]
        back = past.offsets[rows + 1] - np.arange(len(past.items))  # 1 for the last event
        among_recent = np.bincount(rows[hits & (back <= recent)], minlength=len(targets)) > 0
        anywhere = np.bincount(rows[hits], minlength=len(targets)) > 0
        return cls(recent=among_recent, older=anywhere & ~among_recent)


def audit(split: Split, categories: Ints | None, *, recent: int) -> Audit:
    """What a log says of the worth of its older items.

    Args:
        split: whose test targets are looked for.
        categories: ``[V]``, 0 unknown, where the items have categories.
        recent: how many of the last events are recent; the others are older.
    """
    past, targets = split.past("test"), split.targets("test")
    places = Places.of(past, targets, recent)
    counters = {"own items": frequency} | ({} if categories is None else {"own categories": by_category(categories)})
    results = {name: _counter(scores, split, past, targets, recent) for name, scores in counters.items()}
    users = split.test.users
    return Audit(
        recent=recent,
        users=len(np.unique(users)),
        targets=len(targets),
        events_before=float(np.median(past.lengths)),
        older_events=float(np.median(np.maximum(past.lengths - recent, 0))),
        shares=Shares(
            recent=float(user_means(places.recent.astype(np.float64), users).mean()),
            older=float(user_means(places.older.astype(np.float64), users).mean()),
            new=float(user_means((~places.recent & ~places.older).astype(np.float64), users).mean()),
        ),
        counters=results,
    )


def by_category(categories: Ints) -> Scores:
    """Items by how often the user took their category, then by popularity; a category that is not known counts as none."""

    def scores(train_counts: Ints, past: tuple[Ints, Ints]) -> Floats:
        offsets, items = past
        n, kinds = len(offsets) - 1, int(categories.max()) + 1
        rows = np.repeat(np.arange(n), np.diff(offsets))
        counts = np.bincount(rows * kinds + categories[items], minlength=n * kinds).reshape(n, kinds).astype(np.float64)
        counts[:, 0] = 0
        return counts[:, categories] + popularity(train_counts, past)

    return scores


def mean_with_interval(per_user: Floats, *, seed: int) -> tuple[float, float | None, float | None]:
    """The mean and its 95% interval over users; no interval of fewer than `LEAST_USERS`, or of users who are all alike."""
    low, high = interval_of(bootstrap_means(per_user, seed=seed)) if len(per_user) >= LEAST_USERS else (None, None)
    return float(per_user.mean()), low, high


def _counter(scores: Scores, split: Split, past: Sequences, targets: Ints, recent: int) -> Counter:
    counts, seen, users = split.train_counts(), split.seen("test"), split.test.users
    short = past.newest(np.arange(len(past)), recent)
    values = {}
    for name, events in (("whole", past), ("recent", short)):
        metrics = metric_values(ranks_by(scores, train_counts=counts, past=(events.offsets, events.items), targets=targets, seen=seen))
        values[name] = {metric: user_means(metrics[metric], users) for metric in METRICS}
    gains = {}
    for metric in METRICS:
        gains[metric] = mean_with_interval(values["whole"][metric] - values["recent"][metric], seed=BOOTSTRAP_SEED)
    single = is_single(users)
    means = {
        name: {metric: summarise(of[metric], share=is_share(metric) and single).value for metric in METRICS} for name, of in values.items()
    }
    return Counter(whole=means["whole"], recent=means["recent"], gain=gains)
