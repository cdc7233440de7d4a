"""The interaction log: every source becomes one, and it is all that later parts read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from persrec.data.columns import check_seconds, ids, of_items, seconds, sort_keys
from persrec.data.protocol import Protocol

PADDING = 0
UNKNOWN_TIME = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InteractionLog:
    """Interactions grouped by user, in time order inside a user.

    ``V = num_items`` counts the padding item 0, so item ids are ``1..V-1``.

    Attributes:
        name: the dataset's name.
        offsets: int64 ``[U + 1]``, from 0 to ``n``: user ``u`` owns the rows ``offsets[u]:offsets[u + 1]``.
        items: int32 or int64 ``[n]``, ``1..num_items-1``; may be mapped from a file.
        times: int64 ``[n]``, seconds; 0 is unknown. An unknown time keeps its place in the order. May be mapped from a file.
        num_items: ``V``, padding included.
        protocol: how the dataset is evaluated.
        item_texts: ``V`` texts, ``""`` for padding, or None where the source has none.
        item_categories: int64 ``[V]``, 0 for padding and unknown, or None where the source has none.
        digest: SHA-256 of the sources or of the frozen settings.
        notes: plain JSON values for the record: the file used, counts, settings.

    Raises:
        ValueError: a field breaks what is said here; the message names it.
    """

    name: str
    offsets: NDArray[np.int64]
    items: NDArray[Any]
    times: NDArray[np.int64]
    num_items: int
    protocol: Protocol
    item_texts: tuple[str, ...] | None
    item_categories: NDArray[np.int64] | None
    digest: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected_types = {"offsets": ("int64",), "items": ("int32", "int64"), "times": ("int64",)}
        for name, types in expected_types.items():
            values = getattr(self, name)
            if values.dtype.name not in types or values.ndim != 1 or (name == "times" and len(values) != len(self.items)):
                shape = f" of shape ({len(self.items)},)" if name == "times" else " of one dimension"
                raise ValueError(f"{name}: {values.dtype} of shape {values.shape}; expected {' or '.join(types)}{shape}")
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or np.any(np.diff(self.offsets) < 0):
            raise ValueError(
                f"offsets: {len(self.offsets)} numbers; expected them ascending from 0 to {len(self.items)}, the number of rows"
            )
        _check_range("items", self.items, 1, self.num_items)
        check_seconds("times", self.times)
        if self.item_texts is not None and (len(self.item_texts) != self.num_items or self.item_texts[PADDING] != ""):
            raise ValueError(f"item_texts: {len(self.item_texts)} texts; expected {self.num_items}, the first one empty")
        non_text = next((text for text in self.item_texts or () if not isinstance(text, str)), None)
        if non_text is not None:
            raise ValueError(f"item_texts: {non_text!r} is {type(non_text).__name__}; expected text")
        if self.item_categories is not None and (self.item_categories.shape != (self.num_items,) or self.item_categories[PADDING] != 0):
            raise ValueError(f"item_categories: shape {self.item_categories.shape}; expected ({self.num_items},), the first one 0")

    def __len__(self) -> int:
        """Number of interactions."""
        return len(self.items)

    @property
    def num_users(self) -> int:
        """``U``."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, int64 ``[U]``."""
        return np.diff(self.offsets)

    @property
    def users(self) -> NDArray[np.int64]:
        """The user of each row, int64 ``[n]``: as large as the log itself, so code with bounded memory does not use it."""
        return np.repeat(np.arange(self.num_users), self.lengths)

    @property
    def exclude_seen(self) -> bool:
        """Whether the protocol leaves a user's known items out of the ranking."""
        return self.protocol.exclude_seen

    @classmethod
    def from_rows(
        cls,
        *,
        name: str,
        users: NDArray[Any],
        items: NDArray[Any],
        times: NDArray[Any],
        digest: str,
        exclude_seen: bool = False,
        order: NDArray[Any] | None = None,
        texts: Mapping[Any, object] | None = None,
        categories: Mapping[Any, object] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Self:
        """A log from rows in the order of the source's file.

        Rows are sorted by user, then by ``order`` (default: ``times``, where an unknown one is that of the user's row before); the sort is
        stable, so ties keep file order. Raw ids become dense ids in ascending raw order: users from 0, items from 1. Nothing is guessed: a
        missing value, ids of several kinds, times as text or with fractions are refused; what is converted is said in
        ``notes["converted"]``.

        Args:
            name: the dataset's name.
            users: ``[n]`` whole numbers or texts.
            items: as ``users``.
            times: ``[n]`` seconds since 1970, 0 where unknown, or ``datetime64`` of any unit.
            digest: as the attribute.
            exclude_seen: as the property; the protocol is else the usual one.
            order: ``[n]`` numbers or ``datetime64`` to sort by.
            texts: by raw item id; an item without one gets ``""``. ``notes["items_with_text"]`` counts the others.
            categories: names by raw item id; an item without one gets category 0. They are numbered from 1 in ascending
                order, which ``notes["category_names"]`` keeps; ``notes["items_with_category"]`` counts the items.
            notes: as the attribute; what is counted here is added.

        Raises:
            ValueError: no rows, columns of different lengths or of another kind, a missing value.
            NoMatchError: the texts, or the categories, are those of none of the items.
        """
        columns = {"users": users, "items": items, "times": times} | ({} if order is None else {"order": order})
        for column, values in columns.items():
            if np.ndim(values) != 1:
                raise ValueError(f"{column}: shape {np.shape(values)}; expected one dimension")
            if len(values) != len(users):
                raise ValueError(f"{name}: {len(values)} {column} for {len(users)} users; expected one of each a row")
        if len(users) == 0:
            raise ValueError(f"{name}: no interactions")
        (users, items, times), conversions = _convert(users=users, items=items, times=times)
        keys = sort_keys("order", columns.get("order", columns["times"]))
        raw_users, dense_users = np.unique(users, return_inverse=True)
        if order is None:
            keys = _in_place_where_unknown(keys, times != 0, dense_users)
        raw_items, dense_items = np.unique(items, return_inverse=True)
        rows = np.lexsort((keys, dense_users))
        facts = dict(notes or {}) | {"rows": len(users), "users": len(raw_users), "items": len(raw_items)}
        if conversions:
            facts["converted"] = conversions
        item_texts, item_categories = None, None
        if texts is not None:
            item_texts = ("", *of_items("texts", texts, raw_items.tolist()))
            facts["items_with_text"] = _count(item_texts)
        if categories is not None:
            names_of_items = of_items("categories", categories, raw_items.tolist())
            names = sorted({category for category in names_of_items if category})
            number = {"": 0} | {category: place for place, category in enumerate(names, start=1)}
            item_categories = np.array([0, *(number[category] for category in names_of_items)], dtype=np.int64)
            facts |= {"category_names": ["", *names], "items_with_category": _count(names_of_items)}
        return cls(
            name=name,
            offsets=np.concatenate([[0], np.cumsum(np.bincount(dense_users))]).astype(np.int64),
            items=dense_items[rows].astype(np.int64) + 1,
            times=times[rows],
            num_items=len(raw_items) + 1,
            protocol=Protocol(seen_items="excluded" if exclude_seen else "kept"),
            item_texts=item_texts,
            item_categories=item_categories,
            digest=digest,
            notes=facts,
        )


def _in_place_where_unknown(keys: NDArray[Any], known: NDArray[np.bool_], users: NDArray[np.int64]) -> NDArray[Any]:
    """Sort keys ``[n]`` in which a row without one has that of the same user's last row before it, in the order of the rows."""
    by_user = np.argsort(users, kind="stable")
    places = np.arange(len(keys))
    last_known = np.maximum.accumulate(np.where(known[by_user], places, -1))
    first = np.searchsorted(users[by_user], users[by_user])  # of each row's user
    carried = keys[by_user].copy()
    has_earlier = last_known >= first
    carried[has_earlier] = carried[last_known[has_earlier]]
    filled = np.empty_like(carried)
    filled[by_user] = carried
    return filled


def _convert(**columns: Any) -> tuple[list[NDArray[Any]], dict[str, str]]:
    """The columns of a log, and what was converted in them, by column."""
    results = {name: (seconds if name == "times" else ids)(name, values) for name, values in columns.items()}
    return [values for values, _ in results.values()], {name: note for name, (_, note) in results.items() if note is not None}


def _count(texts: Iterable[str]) -> int:
    return sum(bool(text.strip()) for text in texts)


def _check_range(name: str, values: NDArray[Any], low: int, stop: int) -> None:
    if len(values) and (values.min() < low or values.max() >= stop):
        raise ValueError(f"{name}: {int(values.min())}..{int(values.max())} leaves {low}..{stop - 1}")
