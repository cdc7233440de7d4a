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

    The last ``recent`` items take the recent slots, right-aligned. What is older fills the history's segments from the
    first on, as few as hold it, so that the first is padded on its left and later ones stay empty.

    Args:
        sequences: the users' interactions.
        users: ``[B]``.
        ends: ``[B]``, at least 1.
        shape: the slots.
        trim: leave out leading columns that are padding in every row, down to one item of the first segment.
        gap: how many items before the recent ones are in neither part: the history ends that much earlier.
        history: items of the history at most, as if the users' older ones had never been; None is all that have a slot.
    """
    recent, older, history_end = _filled(ends, shape, gap=gap, history=history)
    columns = np.arange(shape.width)
    if trim and shape.segments:
        lead = int(np.where(older > 0, history_end - older, shape.history).min())
        columns = columns[min(lead, shape.segments[0] - 1) :]
    is_recent = columns >= shape.history
    back = np.where(is_recent, shape.width - columns, (recent + gap + history_end)[:, None] - columns)
    held = np.where(is_recent, back <= recent[:, None], (columns < history_end[:, None]) & (back <= (recent + gap + older)[:, None]))
    start = sequences.offsets[users]
    index = np.where(held, (start + ends)[:, None] - back, 0)
    following = np.where(held, index + 1, 0)
    return WindowBatch(
        items=np.where(held, sequences.items[index], 0).astype(np.int64),
        times=np.where(held, sequences.times[index], 0),
        targets=np.where(held, sequences.items[following], 0).astype(np.int64),
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
    recent, older, history_end = _filled(ends, shape, gap=0, history=history)
    before = np.searchsorted(predicting, np.arange(shape.width + 1))  # predicting columns before each column
    in_history = before[history_end] - before[history_end - older]
    counts: np.ndarray = before[shape.width] - before[shape.width - recent] + in_history
    return counts


def _filled(ends: np.ndarray, shape: WindowShape, *, gap: int, history: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recent items of each window, items of its history, and the column behind the history's last item."""
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
        """Users and ends of every step behind the first ``steps``, alike long, and the length of the step's history.

        Raises:
            ValueError: no user has an item that could be predicted.
        """
        if not (self.lengths > 1).any():
            raise ValueError("data: no user has the 2 training items that predicting the second from the first needs")
        return itertools.islice(self._drawn_steps(), steps, None)

    def _drawn_steps(self) -> Iterator[tuple[np.ndarray, np.ndarray, int | None]]:
        choices: Sequence[int | None] = self.histories or (None,)
        chances = rank_chances(self.histories or (0,))
        rounds = [self._steps(history) for history in choices]
        drawn = np.random.default_rng([self.seed, _LENGTHS])
        while True:
            choice = int(drawn.choice(len(choices), p=chances))
            users, ends = next(rounds[choice])
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
            shuffled = rng.permutation(len(new_users))
            users, ends = np.concatenate([users, new_users[shuffled]]), np.concatenate([ends, new_ends[shuffled]])
            counts = self._counts(ends, history)
            full_steps = (surplus + int(counts.sum())) // self.targets_per_step
            starts = surplus + np.cumsum(counts) - counts
            taken = int(np.searchsorted(starts, full_steps * self.targets_per_step))
            pool = starts[:taken] // (POOL_STEPS * self.targets_per_step)
            order = np.lexsort((np.minimum(ends[:taken], width), pool))
            sizes = counts[:taken][order]
            step = (surplus + np.cumsum(sizes) - sizes) // self.targets_per_step  # a window is of the step that its first target is of
            members = np.split(order, np.flatnonzero(np.diff(step)) + 1) if taken else []
            for index in rng.permutation(len(members)):
                yield users[members[index]], ends[members[index]]
            surplus += int(sizes.sum()) - full_steps * self.targets_per_step
            users, ends = users[taken:], ends[taken:]

    def _counts(self, ends: np.ndarray, history: int | None) -> np.ndarray:
        return target_counts(ends, self.shape, self.predicting, history=history)


def rank_chances(sizes: Sequence[int]) -> np.ndarray:
    """With which chance a step of an elastic model draws each of ``sizes``: in proportion to its rank from the smallest.

    What is larger is learnt later and sees more, so it gets more of the steps: of `0, 1, 2, 4, 8, 16` tokens the last two get half
    of them, and the model without tokens a twenty-first.

    Args:
        sizes: all different, in any order.
    """
    ranks = np.argsort(np.argsort(sizes)) + 1
    return np.asarray(ranks / ranks.sum())


def random_segments(shape: WindowShape, rng: np.random.Generator) -> tuple[int, ...]:
    """As many segments as ``shape`` has, of its history cut at random places, all equally likely; each has one item at least."""
    ends = np.sort(rng.choice(np.arange(1, shape.history), len(shape.segments) - 1, replace=False))
    return tuple(int(items) for items in np.diff([0, *ends, shape.history]))


def window_plan(lengths: np.ndarray, *, shortest: int, stride: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which windows a round trains on: no position of a user more than once.

    A user's newest window ends at a random one of the last ``stride`` places of those that leave it ``shortest`` items, or at the
    last where none does. The others lie back to back before it, ``stride`` targets apart. With ``shortest`` a window's width, a
    round leaves out some of the newest targets of sequences that are longer than a window. With less, ends move in shorter ones
    too: recent slots then hold other targets every round, and the newest are left out more often.

    Args:
        lengths: ``[U]`` items of each user that may be trained on.
        shortest: items that a user's newest window holds at least, where it does not end with the sequence.
        stride: targets a window carries.
        rng: moves the ends.

    Returns:
        Users and ends, alike long.
    """
    last = lengths - 1
    slack = np.clip(np.minimum(stride - 1, last - shortest), 0, None)
    first_end = last - rng.integers(0, slack + 1)
    counts = np.where(last >= 1, np.maximum(1, -(-first_end // stride)), 0)
    users = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return users, first_end[users] - nth * stride
