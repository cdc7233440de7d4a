"""Splits by name: what may be trained on, and which targets validate and test.

``leave-one-out`` tests on the last event of each user and validates on the one before; so it trains on what others did later than a
user's target. ``temporal`` cuts all users at the same two days, and nothing from the first day on is trained on.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from persrec.data.interactions import UNKNOWN_TIME, InteractionLog
from persrec.data.protocol import Protocol
from persrec.names import LEAVE_ONE_OUT, TEMPORAL

MIN_EVALUATED_EVENTS = 3  # one to train on, one to validate, one to test
TARGETS_PER_USER = 8  # of the temporal split, the first ones of a period
# shares of the events that lie before the first day of the validation, and of the test, unless the protocol gives the days
TRAINED_SHARE, VALIDATED_SHARE = 0.8, 0.9
DAY = 86_400
ROWS_AT_ONCE = 1 << 22
_CHOICE_SEED = 20261128  # of the users who are evaluated where there are more than the protocol asks for

Part = Literal["validation", "test"]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sequences:
    """Events of all users, end to end: user ``u`` owns ``offsets[u]:offsets[u + 1]``.

    Attributes:
        offsets: int64 ``[U + 1]``, from 0 to ``n``.
        items: int32 or int64 ``[n]``.
        times: int64 ``[n]``, seconds, 0 where unknown.
    """

    offsets: Ints
    items: NDArray[Any]
    times: Ints

    def __len__(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> tuple[Ints, Ints]:
        """Items and times of one user, oldest first, int64; of int64 columns they are views."""
        if not 0 <= user < len(self):  # also what ends iteration
            raise IndexError(f"user: {user} leaves 0..{len(self) - 1}")
        rows = slice(int(self.offsets[user]), int(self.offsets[user + 1]))
        return np.asarray(self.items[rows], dtype=np.int64), self.times[rows]

    @property
    def lengths(self) -> Ints:
        """Events of each user, int64 ``[U]``."""
        return np.diff(self.offsets)

    def newest(self, users: Ints, count: int | None) -> "Sequences":
        """The last ``count`` events of some users, or all; a copy."""
        lengths = self.lengths[users]
        counts = lengths if count is None else np.minimum(lengths, count)
        rows, offsets = _rows(self.offsets[users + 1] - counts, counts)
        return Sequences(offsets=offsets, items=self.items[rows], times=self.times[rows])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges ``(start, stop)`` of users that own about `ROWS_AT_ONCE` rows each: as much as is read at once of a large log."""
        start = 0
        while start < len(self):
            stop = max(start + 1, int(np.searchsorted(self.offsets, self.offsets[start] + ROWS_AT_ONCE, side="right")) - 1)
            yield start, stop
            start = stop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Targets:
    """What is predicted in one part of a split.

    Attributes:
        users: int64 ``[E]``, ascending; a user occurs once for each target.
        positions: int64 ``[E]``, each target's place in the user's own sequence, at least 1. Everything before is the input.
    """

    users: Ints
    positions: Ints

    def __len__(self) -> int:
        """Number of targets."""
        return len(self.users)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Who is evaluated, on which targets, and what may be trained on.

    Attributes:
        name: of `persrec.names.SPLITS`.
        sequences: all events of all users.
        num_items: ``V``, padding included.
        protocol: how the dataset is evaluated.
        train_ends: int64 ``[U]``, how many of each user's first events may be trained on.
        validation: the targets that a training is stopped by.
        test: the targets that are reported.
        days: of the temporal split, the first day of the validation and that of the test, as ISO 8601; empty for leave-one-out.
    """

    name: str
    sequences: Sequences
    num_items: int
    protocol: Protocol
    train_ends: Ints
    validation: Targets
    test: Targets
    days: tuple[str, ...] = ()

    @property
    def exclude_seen(self) -> bool:
        """Whether the protocol leaves a user's known items out of the ranking."""
        return self.protocol.exclude_seen

    def of(self, part: Part) -> Targets:
        """The targets of a part.

        Raises:
            ValueError: there is no such part.
        """
        if part not in ("validation", "test"):
            raise ValueError(f"part: unknown {part!r}; known: validation, test")
        return self.validation if part == "validation" else self.test

    def check_trained(self) -> None:
        """Raises a ValueError if no user has two items to train on, of which the first predicts the second."""
        if int(self.train_ends.max(initial=0)) < 2:
            raise ValueError("data: no user has the 2 training items that predicting the second from the first needs")

    def check_evaluated(self) -> None:
        """Raises a ValueError if a part has nobody to evaluate."""
        for part in ("validation", "test"):
            if len(self.of(part)):
                continue
            longest = int(self.sequences.lengths.max(initial=0))
            if self.name == LEAVE_ONE_OUT:
                raise ValueError(
                    f"data: no user has the {MIN_EVALUATED_EVENTS} events that leave-one-out needs, one each to train on, to validate and "
                    f"to test, or the protocol's minimum history; the longest of {len(self.sequences)} users has {longest}"
                )
            first_day = self.days[0 if part == "validation" else 1]
            raise ValueError(f"data: no target of the {part} from {first_day} on has the protocol's minimum history; expected some")

    def targets(self, part: Part) -> Ints:
        """Target items, int64 ``[E]``."""
        targets = self.of(part)
        return np.asarray(self.sequences.items[self.sequences.offsets[targets.users] + targets.positions], dtype=np.int64)

    def past(self, part: Part) -> Sequences:
        """All events before each target, in the order of the targets: the input, and what a user knows already."""
        targets = self.of(part)
        rows, offsets = _rows(self.sequences.offsets[targets.users], targets.positions)
        return Sequences(offsets=offsets, items=self.sequences.items[rows].astype(np.int64), times=self.sequences.times[rows])

    def seen(self, part: Part) -> tuple[Ints, Ints] | None:
        """What ranking leaves out, items before the window too, as (offsets ``[E + 1]``, items); None where seen items are kept."""
        if not self.exclude_seen:
            return None
        past = self.past(part)
        return past.offsets, past.items

    def train_counts(self) -> Ints:
        """Times each item occurs in the training part, int64 ``[V]``."""
        counts = np.zeros(self.num_items, dtype=np.int64)
        for start, stop in self.sequences.blocks():
            rows, _ = _rows(self.sequences.offsets[start:stop], self.train_ends[start:stop])
            counts += np.bincount(self.sequences.items[rows], minlength=self.num_items)
        return counts


def split_of(log: InteractionLog, name: str) -> Split:
    """A log's split by name; copies none of its events.

    Raises:
        ValueError: no such split, or the log's times do not carry it.
    """
    if name == LEAVE_ONE_OUT:
        return leave_one_out(log)
    if name == TEMPORAL:
        return temporal(log)
    raise ValueError(f"split: unknown {name!r}; known: {LEAVE_ONE_OUT}, {TEMPORAL}")


def leave_one_out(log: InteractionLog) -> Split:
    """The last event of a user tests, the one before validates, neither is trained on.

    Users with fewer than 3 events are trained on whole; they, and those with less history than the protocol asks for, are not evaluated.
    """
    lengths = log.lengths
    users = _evaluated_users(log, lengths >= max(MIN_EVALUATED_EVENTS, log.protocol.minimum_history + 2))
    train_ends = np.where(lengths >= MIN_EVALUATED_EVENTS, lengths - 2, lengths)
    return Split(
        name=LEAVE_ONE_OUT,
        sequences=sequences_of(log),
        num_items=log.num_items,
        protocol=log.protocol,
        train_ends=train_ends,
        validation=Targets(users=users, positions=lengths[users] - 2),
        test=Targets(users=users, positions=lengths[users] - 1),
    )


def temporal(log: InteractionLog) -> Split:
    """Events before one day are trained on, those from it to a second day validate, and those from there on test.

    A user's first `TARGETS_PER_USER` events of a period are its targets; the input of each is everything before it, events of the period
    included, as a service would know them. An event without a time counts as of the time before it.

    Raises:
        ValueError: no time is known, or all events lie in fewer than three days.
    """
    sequences = sequences_of(log)
    days = _days(log, sequences)
    ends = [_events_before(sequences, day * DAY) for day in days]
    lengths = sequences.lengths
    parts = [_first_targets(log, start, stop) for start, stop in ((ends[0], ends[1]), (ends[1], lengths))]
    return Split(
        name=TEMPORAL,
        sequences=sequences,
        num_items=log.num_items,
        protocol=log.protocol,
        train_ends=ends[0],
        validation=parts[0],
        test=parts[1],
        days=tuple((datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat() for day in days),
    )


def sequences_of(log: InteractionLog) -> Sequences:
    """A log's events, not copied."""
    return Sequences(offsets=log.offsets, items=log.items, times=log.times)


def _days(log: InteractionLog, sequences: Sequences) -> tuple[int, int]:
    """The first days of validation and test, counted from 1970: the protocol's, else those before which the shares of events lie."""
    validation_from, test_from = log.protocol.validation_from, log.protocol.test_from
    if validation_from is not None and test_from is not None:
        return (validation_from - datetime.date(1970, 1, 1)).days, (test_from - datetime.date(1970, 1, 1)).days
    counts = np.zeros(0, dtype=np.int64)
    for start, stop in sequences.blocks():
        times = np.asarray(sequences.times[sequences.offsets[start] : sequences.offsets[stop]])
        block_counts = np.bincount(times[times != UNKNOWN_TIME] // DAY)
        counts = np.pad(counts, (0, max(0, len(block_counts) - len(counts))))
        counts[: len(block_counts)] += block_counts
    if np.count_nonzero(counts) < 3:
        raise ValueError(
            f"split: temporal, yet the known times lie in {np.count_nonzero(counts)} days; expected three at least, one each to train, "
            "to validate and to test"
        )
    event_days = np.flatnonzero(counts)
    earlier_events = np.cumsum(counts[event_days]) - counts[event_days]  # events before each day that has any
    validation_index = int(np.clip(np.searchsorted(earlier_events, TRAINED_SHARE * counts.sum()), 1, len(event_days) - 2))
    test_index = int(np.clip(np.searchsorted(earlier_events, VALIDATED_SHARE * counts.sum()), validation_index + 1, len(event_days) - 1))
    return int(event_days[validation_index]), int(event_days[test_index])


def _events_before(sequences: Sequences, seconds: int) -> Ints:
    """How many of each user's events come before the first one at ``seconds`` or later, int64 ``[U]``."""
    ends = sequences.lengths.copy()
    for start, stop in sequences.blocks():
        first_row = int(sequences.offsets[start])
        late_rows = np.flatnonzero(np.asarray(sequences.times[first_row : sequences.offsets[stop]]) >= seconds) + first_row
        users, first_indices = np.unique(np.searchsorted(sequences.offsets, late_rows, side="right") - 1, return_index=True)
        ends[users] = late_rows[first_indices] - sequences.offsets[users]
    return ends


def _first_targets(log: InteractionLog, start: Ints, stop: Ints) -> Targets:
    """The first targets between two places of each user's sequence that have the protocol's history before them."""
    start = np.maximum(start, log.protocol.minimum_history)
    users = _evaluated_users(log, stop > start)
    counts = np.minimum(stop - start, TARGETS_PER_USER)[users]
    rows, _ = _rows(start[users], counts)
    return Targets(users=np.repeat(users, counts), positions=rows)


def _evaluated_users(log: InteractionLog, eligible: NDArray[np.bool_]) -> Ints:
    """The users who are evaluated, int64, ascending: all eligible ones, or the protocol's number of them, drawn once for all."""
    users = np.flatnonzero(eligible).astype(np.int64)
    limit = log.protocol.most_users
    return users if len(users) <= limit else np.sort(np.random.default_rng(_CHOICE_SEED).choice(users, limit, replace=False))


def _rows(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Row numbers of ``counts[i]`` rows from ``starts[i]`` on, end to end, and the offsets of each run in them."""
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    rows = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], counts)
    return rows, offsets
