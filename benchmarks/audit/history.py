"""Where a split's test targets were before, and what counters rank with and without the older items."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit.record import Audit, Counter, Shares
from persrec.data.splits import Sequences, Split
from persrec.evaluation.floors import frequency
from persrec.evaluation.metrics import bootstrap_means, is_share, is_single, metric_values, summarise, user_means
from persrec.evaluation.ranks import Seen, target_ranks_from_scores
from persrec.names import INTERVAL

METRICS = ("ndcg@10", "recall@10")
USERS_AT_ONCE = 512
BOOTSTRAP_SEED = 0

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scores = Callable[[Ints, tuple[Ints, Ints]], Floats]  # of the training counts and users' pasts, as `persrec.evaluation.floors`


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
    measured = {name: _counter(scores, split, past, targets, recent) for name, scores in counters.items()}
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
        counters=measured,
    )


def by_category(categories: Ints) -> Scores:
    """Items by how often the user took their category, then by popularity; a category that is not known counts as none."""

    def scores(train_counts: Ints, past: tuple[Ints, Ints]) -> Floats:
        offsets, items = past
        n, kinds = len(offsets) - 1, int(categories.max()) + 1
        rows = np.repeat(np.arange(n), np.diff(offsets))
        taken = np.bincount(rows * kinds + categories[items], minlength=n * kinds).reshape(n, kinds).astype(np.float64)
        taken[:, 0] = 0
        popular: Floats = train_counts / (train_counts.max() + 1)
        return taken[:, categories] + popular

    return scores


def last(past: Sequences, count: int) -> Sequences:
    """The last ``count`` events of each past."""
    counts = np.minimum(past.lengths, count)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(past.offsets[1:] - counts - offsets[:-1], counts)
    return Sequences(offsets=offsets, items=past.items[rows], times=past.times[rows])


def _counter(scores: Scores, split: Split, past: Sequences, targets: Ints, recent: int) -> Counter:
    counts, seen, users = split.train_counts(), split.seen("test"), split.test.users
    short = last(past, recent)
    values = {}
    for name, known in (("whole", past), ("recent", short)):
        metrics = metric_values(_ranks(scores, counts, known, targets, seen))
        values[name] = {metric: user_means(metrics[metric], users) for metric in METRICS}
    gains = {}
    for metric in METRICS:
        draws = bootstrap_means(values["whole"][metric] - values["recent"][metric], seed=BOOTSTRAP_SEED)
        low, high = np.percentile(draws, INTERVAL)
        gains[metric] = (float((values["whole"][metric] - values["recent"][metric]).mean()), float(low), float(high))
    single = is_single(users)
    means = {
        name: {metric: summarise(of[metric], share=is_share(metric) and single).value for metric in METRICS} for name, of in values.items()
    }
    return Counter(whole=means["whole"], recent=means["recent"], gain=gains)


def _ranks(scores: Scores, counts: Ints, past: Sequences, targets: Ints, seen: Seen | None) -> Ints:
    ranks = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(targets), USERS_AT_ONCE):
        stop = min(first + USERS_AT_ONCE, len(targets))
        left_out = None if seen is None else _slice(np.asarray(seen[0]), np.asarray(seen[1]), first, stop)
        known = _slice(past.offsets, past.items, first, stop)
        ranks.append(target_ranks_from_scores(scores(counts, known), targets[first:stop], left_out))
    return np.concatenate(ranks)


def _slice(offsets: Ints, items: Ints, first: int, stop: int) -> tuple[Ints, Ints]:
    return offsets[first : stop + 1] - offsets[first], items[offsets[first] : offsets[stop]]
