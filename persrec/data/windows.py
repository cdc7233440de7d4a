"""Windows: rows of item ids that a layout's segments and recent slots are filled with, and which of them a training step sees."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from persrec.data.splits import Sequences

POOL_STEPS = 16  # steps whose windows are sorted by length together: more leave less padding, fewer mix users better
_LENGTHS, _WINDOWS = 0, 1  # what each of the generators behind a seed draws


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowShape:
    """The part of a layout that the data need.

    Attributes:
        segments: item slots of each history segment.
        recent: item slots of the recent segment.
    """

    segments: tuple[int, ...]
    recent: int

    @property
    def history(self) -> int:
        """Item slots before the recent ones."""
        return sum(self.segments)

    @property
    def width(self) -> int:
        """Columns of a window, ``L``."""
        return self.history + self.recent


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowBatch:
    """Windows of some users, 0 where padded.

    Attributes:
        items: ``[B, W]``; ``W`` is the window's width less the leading columns that are padding in every row.
        times: ``[B, W]`` seconds, 0 unknown.
        targets: ``[B, W]`` the item that follows each item in the user's sequence.
        query_times: ``[B]`` time of the last target.
    """

    items: np.ndarray
    times: np.ndarray
    targets: np.ndarray
    query_times: np.ndarray


def build_windows(
    sequences: Sequences,
    users: np.ndarray,
    ends: np.ndarray,
    shape: WindowShape,
    *,
    trim: bool = False,
    gap: int = 0,
    history: int | None = None,
) -> WindowBatch:
    """The windows of the items before ``ends[i]`` in the sequence of ``users[i]``; the item at ``ends[i]`` is the last target.

    The last ``recent`` items take the recent slots, right-aligned. Older items fill the history's segments from the first on,
    and no more segments than they need: the first is padded on its left, and later ones stay empty.

    Args:
        sequences: the users' interactions.
        users: ``[B]``.
        ends: ``[B]``, at least 1.
        shape: the slots.
        trim: leave out leading columns that are padding in every row, down to one item of the first segment.
        gap: how many items before the recent ones are in neither part: the history ends that much earlier.
        history: the most items of the history, as if the users had no older ones; None is all that have a slot.
    """
    recent, older, history_end = _slot_occupancy(ends, shape, gap=gap, history=history)
    columns = np.arange(shape.width)
    if trim and shape.segments:
        leading_padding = int(np.where(older > 0, history_end - older, shape.history).min())
        columns = columns[min(leading_padding, shape.segments[0] - 1) :]
    is_recent = columns >= shape.history
    ages = np.where(is_recent, shape.width - columns, (recent + gap + history_end)[:, None] - columns)
    has_item = np.where(is_recent, ages <= recent[:, None], (columns < history_end[:, None]) & (ages <= (recent + gap + older)[:, None]))
    start = sequences.offsets[users]
    index = np.where(has_item, (start + ends)[:, None] - ages, 0)
    next_index = np.where(has_item, index + 1, 0)
    return WindowBatch(
        items=np.where(has_item, sequences.items[index], 0).astype(np.int64),
        times=np.where(has_item, sequences.times[index], 0),
        targets=np.where(has_item, sequences.items[next_index], 0).astype(np.int64),
        query_times=sequences.times[start + ends],
    )


def target_counts(ends: np.ndarray, shape: WindowShape, predicting: np.ndarray, *, history: int | None = None) -> np.ndarray:
    """How many items the windows that end before ``ends`` are trained to predict, int64 ``[B]``; padding does not count.

    Args:
        ends: ``[B]``, at least 1.
        shape: the slots.
        predicting: the window's columns whose item predicts the next one, ascending.
        history: as in `build_windows`.
    """
    recent, older, history_end = _slot_occupancy(ends, shape, gap=0, history=history)
    predicting_before = np.searchsorted(predicting, np.arange(shape.width + 1))  # predicting columns before each column
    in_history = predicting_before[history_end] - predicting_before[history_end - older]
    counts: np.ndarray = predicting_before[shape.width] - predicting_before[shape.width - recent] + in_history
    return counts


def _slot_occupancy(ends: np.ndarray, shape: WindowShape, *, gap: int, history: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per window: the number of recent items, the number of history items, and the column after the history's last item."""
    recent = np.minimum(ends, shape.recent)
    older = np.clip(ends - recent - gap, 0, shape.history if history is None else min(history, shape.history))
    offsets = np.concatenate([[0], np.cumsum(shape.segments)]).astype(np.int64)
    return recent, older, offsets[np.searchsorted(offsets, older)]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWindows:
    """Which windows each training step sees, without end: a function of the settings alone.

    Rounds through all windows follow each other. A round's windows are shuffled, sorted by length in pools of `POOL_STEPS` steps and
    cut into steps, and the steps are shuffled. The ``n`` steps of the rounds so far carry ``n * targets_per_step`` targets and less
    than a window more, so a single step has less than a window more or fewer. A window with more targets than a step is a step of
    its own. What does not fill a step at a round's end comes first in the next round.

    Attributes:
        lengths: ``[U]`` items of each user that may be trained on.
        shape: the slots.
        predicting: the window's columns whose item predicts the next one, ascending.
        targets_per_step: next-item targets of a step; padding does not count.
        moving: whether a user's newest window may end wherever it has one item of history, see `window_plan`.
        histories: each step draws one of these lengths of the history by `rank_chances`; empty is always the whole.
        seed: of every draw.
    """

    lengths: np.ndarray
    shape: WindowShape
    predicting: np.ndarray
    targets_per_step: int
    moving: bool = False
    histories: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for history in self.histories:
            if not 0 <= history <= self.shape.history:
                raise ValueError(f"history_lengths: {history}; expected 0 to {self.shape.history}, the items of the layout's history")

    def after(self, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, int | None]]:
        """Of every step after the first ``steps``: users and ends, of equal length, and the length of the step's history.

        Raises:
            ValueError: no user has an item that could be predicted.
        """
        if not (self.lengths > 1).any():
            raise ValueError("data: no user has the 2 training items that predicting the second from the first needs")
        return itertools.islice(self._interleaved_steps(), steps, None)

    def _interleaved_steps(self) -> Iterator[tuple[np.ndarray, np.ndarray, int | None]]:
        choices: Sequence[int | None] = self.histories or (None,)
        chances = rank_chances(self.histories or (0,))
        steps_by_choice = [self._steps(history) for history in choices]
        rng = np.random.default_rng([self.seed, _LENGTHS])
        while True:
            choice = int(rng.choice(len(choices), p=chances))
            users, ends = next(steps_by_choice[choice])
            yield users, ends, choices[choice]

    def _steps(self, history: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The steps of one length of the history, round after round."""
        rng = np.random.default_rng([self.seed, _WINDOWS, self.shape.history if history is None else history])
        width = self.shape.recent + (self.shape.history if history is None else history)
        shortest = min(self.shape.recent + 1, width) if self.moving else width
        stride = int(self._counts(np.array([width]), history)[0])
        users = ends = np.zeros(0, dtype=np.int64)
        surplus = 0  # targets that the steps so far had beyond their number times ``targets_per_step``
        while True:
            new_users, new_ends = window_plan(self.lengths, shortest=shortest, stride=stride, rng=rng)
            permutation = rng.permutation(len(new_users))
            users, ends = np.concatenate([users, new_users[permutation]]), np.concatenate([ends, new_ends[permutation]])
            counts = self._counts(ends, history)
            full_steps = (surplus + int(counts.sum())) // self.targets_per_step
            starts = surplus + np.cumsum(counts) - counts
            num_windows = int(np.searchsorted(starts, full_steps * self.targets_per_step))
            pool = starts[:num_windows] // (POOL_STEPS * self.targets_per_step)
            order = np.lexsort((np.minimum(ends[:num_windows], width), pool))
            sizes = counts[:num_windows][order]
            step = (surplus + np.cumsum(sizes) - sizes) // self.targets_per_step  # a window belongs to the step of its first target
            members = np.split(order, np.flatnonzero(np.diff(step)) + 1) if num_windows else []
            for index in rng.permutation(len(members)):
                yield users[members[index]], ends[members[index]]
            surplus += int(sizes.sum()) - full_steps * self.targets_per_step
            users, ends = users[num_windows:], ends[num_windows:]

    def _counts(self, ends: np.ndarray, history: int | None) -> np.ndarray:
        return target_counts(ends, self.shape, self.predicting, history=history)


def rank_chances(sizes: Sequence[int]) -> np.ndarray:
    """The chance of each of ``sizes`` to be drawn for a step of an elastic model: proportional to its rank, from the smallest.

    A larger size is learnt later and sees more, so it gets more of the steps: of `0, 1, 2, 4, 8, 16` tokens the last two get half
    of them, and the model without tokens a twenty-first.

    Args:
        sizes: all different, in any order.
    """
    ranks = np.argsort(np.argsort(sizes)) + 1
    return np.asarray(ranks / ranks.sum())


def random_segments(shape: WindowShape, rng: np.random.Generator) -> tuple[int, ...]:
    """The history of ``shape`` cut at random places into as many segments as it has; all cuts are equally likely, no segment is empty."""
    ends = np.sort(rng.choice(np.arange(1, shape.history), len(shape.segments) - 1, replace=False))
    return tuple(int(items) for items in np.diff([0, *ends, shape.history]))


def window_plan(lengths: np.ndarray, *, shortest: int, stride: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which windows a round trains on: no position of a user more than once.

    A user's newest window ends at a random one of the last ``stride`` places that leave it ``shortest`` items; if no place does, it
    ends at the last one. The others lie back to back before it, ``stride`` targets apart. If ``shortest`` is a window's width, a
    round leaves out some of the newest targets of sequences that are longer than a window. If it is less, ends move in shorter
    sequences too: recent slots then hold other targets every round, and the newest targets are left out more often.

    Args:
        lengths: ``[U]`` items of each user that may be trained on.
        shortest: items that a user's newest window holds at least, where it does not end with the sequence.
        stride: targets a window carries.
        rng: moves the ends.

    Returns:
        Users and ends, of equal length.
    """
    last = lengths - 1
    slack = np.clip(np.minimum(stride - 1, last - shortest), 0, None)
    first_end = last - rng.integers(0, slack + 1)
    counts = np.where(last >= 1, np.maximum(1, -(-first_end // stride)), 0)
    users = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return users, first_end[users] - nth * stride
