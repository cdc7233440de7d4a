"""Leave-one-out: who is evaluated, on which target, and what may be trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from persrec.data.interactions import InteractionLog

MIN_EVALUATED_EVENTS = 3  # one to train on, one to validate, one to test

Part = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sequences:
    """Events of all users, end to end: user ``u`` owns ``offsets[u]:offsets[u + 1]``.

    Attributes:
        offsets: int64 ``[U + 1]``, from 0 to ``n``.
        items: int64 ``[n]``.
        times: int64 ``[n]``, seconds, 0 where unknown.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and times of one user, oldest first; views, not copies."""
        if not 0 <= user < len(self):  # also what ends iteration
            raise IndexError(f"user: {user} leaves 0..{len(self) - 1}")
        rows = slice(int(self.offsets[user]), int(self.offsets[user + 1]))
        return self.items[rows], self.times[rows]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, int64 ``[U]``."""
        return np.diff(self.offsets)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LeaveOneOut:
    """The last item of a user tests, the one before validates, neither is trained on.

    Users with fewer than 3 events are trained on whole and not evaluated.

    Attributes:
        sequences: all events of all users.
        num_items: ``V``, padding included.
        exclude_seen: whether the protocol leaves a user's known items out of the ranking.
        evaluated: int64 ``[E]``, users with a validation and a test target, ascending.
    """

    sequences: Sequences
    num_items: int
    exclude_seen: bool
    evaluated: NDArray[np.int64]

    def check_evaluated(self) -> None:
        """Raises a ValueError where there is nobody to evaluate."""
        if not len(self.evaluated):
            most = int(self.sequences.lengths.max(initial=0))
            raise ValueError(
                f"data: no user has the {MIN_EVALUATED_EVENTS} events that leave-one-out needs, one each to train on, to validate and to "
                f"test; the longest of {len(self.sequences)} users has {most}"
            )

    @property
    def train_ends(self) -> NDArray[np.int64]:
        """How many of each user's first events may be trained on, int64 ``[U]``."""
        lengths = self.sequences.lengths
        return np.where(lengths >= MIN_EVALUATED_EVENTS, lengths - 2, lengths)

    def train_end(self, user: int) -> int:
        """How many of the user's first events may be trained on: n - 2, or all of fewer than 3."""
        events = len(self.sequences[user][0])
        return events - 2 if events >= MIN_EVALUATED_EVENTS else events

    def target_positions(self, part: Part) -> NDArray[np.int64]:
        """Place of each evaluated user's target in the user's own sequence, int64 ``[E]``: n - 2 or n - 1.

        Everything before that place is the input; for the test, the validation item is part of it.
        """
        back = {"validation": 2, "test": 1}.get(part)
        if back is None:
            raise ValueError(f"part: unknown {part!r}; known: validation, test")
        return self.sequences.lengths[self.evaluated] - back

    def targets(self, part: Part) -> NDArray[np.int64]:
        """Target item of each evaluated user, int64 ``[E]``."""
        targets: NDArray[np.int64] = self.sequences.items[self.sequences.offsets[self.evaluated] + self.target_positions(part)]
        return targets

    def past(self, part: Part) -> Sequences:
        """All events before the target, by place in ``evaluated``: the input, and what a user knows already."""
        ends = self.target_positions(part)
        rows, offsets = _rows(self.sequences.offsets[self.evaluated], ends)
        return Sequences(offsets=offsets, items=self.sequences.items[rows], times=self.sequences.times[rows])

    def seen(self, part: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """What ranking leaves out, (offsets ``[E + 1]``, items), beyond the window too; None where seen items are kept."""
        if not self.exclude_seen:
            return None
        past = self.past(part)
        return past.offsets, past.items

    def train_counts(self) -> NDArray[np.int64]:
        """Times each item occurs in the training part, int64 ``[V]``."""
        rows, _ = _rows(self.sequences.offsets[:-1], self.train_ends)
        return np.bincount(self.sequences.items[rows], minlength=self.num_items).astype(np.int64)


def leave_one_out(log: InteractionLog) -> LeaveOneOut:
    """The leave-one-out split of a log; copies nothing."""
    lengths = log.lengths
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return LeaveOneOut(
        sequences=Sequences(offsets=offsets, items=log.items, times=log.times),
        num_items=log.num_items,
        exclude_seen=log.exclude_seen,
        evaluated=np.flatnonzero(lengths >= MIN_EVALUATED_EVENTS).astype(np.int64),
    )


def _rows(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of ``counts[i]`` rows from ``starts[i]`` on, end to end, and the offsets of each run in them."""
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    rows = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], counts)
    return rows, offsets
