"""What a log is like: what `describe` prints and plots, and reports carry."""

from typing import Any

import numpy as np

from persrec.data.interactions import UNKNOWN_TIME, InteractionLog
from persrec.data.splits import sequences_of

LENGTH_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
SHARES = (0.01, 0.1, 0.5)  # of the items, the most popular first


def statistics(log: InteractionLog) -> dict[str, Any]:
    """Plain numbers that tell what a log is like, taken in bounded memory.

    Returns:
        ``interactions``, ``users``, ``items``;
        ``length``: events per user, median, 90th percentile and most, and ``users_by_length``: how many users have at least so many;
        ``popularity``: share of all events on the most popular 1%, 10% and 50% of the items, and ``median`` events of an item;
        ``repeat_share``: share of events whose item the same user had before;
        ``first_time`` and ``last_time``, seconds, null where no time is known;
        ``unknown_time_share``: share of events without a time;
        ``tied_last_share``: of users with two events or more whose last two have known times, the share whose last two are equal, so
        that the order of the files decides which one is the test's.
    """
    lengths = log.lengths
    counts = np.zeros(log.num_items, dtype=np.int64)
    repeats, unknown_times = 0, 0
    first, last = np.iinfo(np.int64).max, UNKNOWN_TIME
    for start, stop in sequences_of(log).blocks():
        rows = slice(int(log.offsets[start]), int(log.offsets[stop]))
        users = np.repeat(np.arange(stop - start), lengths[start:stop])
        items, times = np.asarray(log.items[rows]), np.asarray(log.times[rows])
        counts += np.bincount(items, minlength=log.num_items)
        repeats += len(items) - len(np.unique(users * np.int64(log.num_items) + items.astype(np.int64)))
        known_times = times[times != UNKNOWN_TIME]
        unknown_times += len(times) - len(known_times)
        if len(known_times):
            first, last = min(first, int(known_times.min())), max(last, int(known_times.max()))
    popularity = np.sort(counts[1:])[::-1]
    return {
        "interactions": len(log),
        "users": log.num_users,
        "items": log.num_items - 1,
        "length": {
            "median": float(np.median(lengths)),
            "p90": float(np.percentile(lengths, 90)),
            "most": int(lengths.max()),
        },
        "users_by_length": {str(step): int((lengths >= step).sum()) for step in LENGTH_STEPS if step <= lengths.max()},
        "popularity": {f"{share:.0%}": float(popularity[: max(1, round(share * len(popularity)))].sum() / len(log)) for share in SHARES}
        | {"median": float(np.median(popularity))},
        "repeat_share": repeats / len(log),
        "first_time": first if last else None,
        "last_time": last or None,
        "unknown_time_share": unknown_times / len(log),
        "tied_last_share": _tied_last_share(log),
    }


def _tied_last_share(log: InteractionLog) -> float | None:
    ends = log.offsets[1:][log.lengths >= 2]
    last_times, previous_times = np.asarray(log.times[ends - 1]), np.asarray(log.times[ends - 2])
    both_known = (last_times != UNKNOWN_TIME) & (previous_times != UNKNOWN_TIME)
    return float((last_times == previous_times)[both_known].mean()) if both_known.any() else None
