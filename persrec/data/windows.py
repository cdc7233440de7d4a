"""Windows: rows of item ids that a layout's segments and recent slots are filled with."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from persrec.data.splits import Sequences


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
    sequences: Sequences, users: np.ndarray, ends: np.ndarray, shape: WindowShape, *, trim: bool = False, gap: int = 0
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
    """
    recent = np.minimum(ends, shape.recent)
    history = np.clip(ends - recent - gap, 0, shape.history)
    filled = np.concatenate([[0], np.cumsum(shape.segments)]).astype(np.int64)
    history_end = filled[np.searchsorted(filled, history)]
    columns = np.arange(shape.width)
    if trim and shape.segments:
        lead = int(np.where(history > 0, history_end - history, shape.history).min())
        columns = columns[min(lead, shape.segments[0] - 1) :]
    is_recent = columns >= shape.history
    back = np.where(is_recent, shape.width - columns, (recent + gap + history_end)[:, None] - columns)
    held = np.where(is_recent, back <= recent[:, None], (columns < history_end[:, None]) & (back <= (recent + gap + history)[:, None]))
    start = sequences.offsets[users]
    index = np.where(held, (start + ends)[:, None] - back, 0)
    following = np.where(held, index + 1, 0)
    return WindowBatch(
        items=np.where(held, sequences.items[index], 0),
        times=np.where(held, sequences.times[index], 0),
        targets=np.where(held, sequences.items[following], 0),
        query_times=sequences.times[start + ends],
    )


def epoch_plan(lengths: np.ndarray, *, shortest: int, stride: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which windows an epoch trains on: no position of a user more than once.

    A user's newest window ends at a random one of the last ``stride`` places of those that leave it ``shortest`` items, or at the
    last where none does. The others lie back to back before it, ``stride`` targets apart. With ``shortest`` a window's width, an
    epoch leaves out some of the newest targets of sequences that are longer than a window. With less, ends move in shorter ones
    too: recent slots then hold other targets every epoch, and the newest are left out more often.

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


def batches(
    users: np.ndarray, ends: np.ndarray, *, width: int, batch_size: int, rng: np.random.Generator, pool: int = 16
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches of windows of like length: pools of ``pool`` batches are sorted by length and cut.

    Every batch but the last of all is full.
    """
    order = rng.permutation(len(users))
    pools = [order[start : start + pool * batch_size] for start in range(0, len(order), pool * batch_size)]
    cut = []
    for members in pools:
        by_length = members[np.argsort(np.minimum(ends[members], width), kind="stable")]
        cut += [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    for index in rng.permutation(len(cut)):
        yield users[cut[index]], ends[cut[index]]
