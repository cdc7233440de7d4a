"""What the exact predictor of the synthetic process reaches, from the whole past and from the last items alone."""

import numpy as np
from numpy.typing import NDArray

from persrec import names
from persrec.data.interactions import InteractionLog
from persrec.data.splits import Part, Sequences, Split
from persrec.data.synthetic import DrawnCatalogue, SyntheticSettings, catalogue, category_probabilities, item_weights, kernel, settings_of

CUTOFFS = names.CUTOFFS[:3]  # without 200: it says nothing of a catalogue of 200 items or fewer
USERS_AT_ONCE = 512  # bounds memory; changes no number


def next_item_probabilities(settings: SyntheticSettings, item_catalogue: DrawnCatalogue, past: Sequences) -> NDArray[np.float64]:
    """Exact distribution ``[n, V]`` of each user's next item given ``past``; column 0, padding, is 0."""
    n, lengths = len(past), past.lengths
    users = np.repeat(np.arange(n), lengths)
    internal = item_catalogue.internal[past.items]
    category = internal // settings.items_per_category
    ages = np.repeat(past.offsets[1:], lengths) - np.arange(len(internal))  # 1 for the newest event
    C, items = settings.categories, settings.num_items - 1
    age_weights = kernel(np.arange(1, max(int(lengths.max(initial=0)), 1) + 1), settings.fade)
    memory = np.bincount(users * C + category, weights=age_weights[ages - 1], minlength=n * C).reshape(n, C).astype(np.float64)
    last = np.full(n, -1, dtype=np.int64)
    has_past = lengths > 0
    last[has_past] = category[past.offsets[1:][has_past] - 1]
    take_counts = np.bincount(users * items + internal, minlength=n * items).reshape(n, C, settings.items_per_category)
    weights = item_weights(settings, item_catalogue.popularity, take_counts)
    weights /= weights.sum(axis=2, keepdims=True)
    weights *= category_probabilities(settings, item_catalogue.rates, memory, last)[:, :, None]
    probabilities = np.zeros((n, items + 1))
    probabilities[:, item_catalogue.ids] = weights.reshape(n, items)
    return probabilities


def expected_metrics(truth: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Per user, what ranking by ``scores`` scores on targets drawn from ``truth``, both ``[n, V]``: a sum, not a sample."""
    depth = min(max(CUTOFFS), truth.shape[1])
    top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable"), axis=1)
    hits = np.take_along_axis(truth, top, axis=1)
    gains = hits / np.log2(np.arange(2, depth + 2))
    recall = {f"recall@{k}": hits[:, :k].sum(axis=1) for k in CUTOFFS}
    return recall | {f"ndcg@{k}": gains[:, :k].sum(axis=1) for k in CUTOFFS}


def ceiling(log: InteractionLog, data: Split, *, recent: int, part: Part = "test") -> dict[str, dict[str, float]]:
    """The ceiling of a synthetic log: expected Recall and NDCG at 5, 10 and 50 on a split's part, where each user counts alike.

    ``whole_past`` ranks by the exact distribution. ``last_recent`` ranks by the same predictor given only the last
    ``recent`` items, as if the user began there; the target still follows the whole past. ``last_recent`` is what that
    predictor reaches, not a bound: a model that learnt what hides behind a short past may do slightly better.

    Raises:
        ValueError: the log is not a synthetic one, or ``recent`` is less than 1.
    """
    if recent < 1:
        raise ValueError(f"recent: {recent} is less than 1")
    settings = settings_of(log.notes)
    item_catalogue = catalogue(settings)
    past, users = data.past(part), data.of(part).users
    shares = 1 / np.bincount(users)[users]  # of a user's several targets
    sums: dict[str, dict[str, float]] = {"whole_past": {}, "last_recent": {}}
    for start in range(0, len(past), USERS_AT_ONCE):
        rows = np.arange(start, min(start + USERS_AT_ONCE, len(past)))
        block = past.newest(rows, None)
        truth = next_item_probabilities(settings, item_catalogue, block)
        from_recent = next_item_probabilities(settings, item_catalogue, block.newest(np.arange(len(block)), recent))
        for name, scores in (("whole_past", truth), ("last_recent", from_recent)):
            for metric, values in expected_metrics(truth, scores).items():
                sums[name][metric] = sums[name].get(metric, 0.0) + float((values * shares[rows]).sum())
    count = len(np.unique(users))
    return {name: {metric: total / count for metric, total in metrics.items()} for name, metrics in sums.items()}
