"""The caches of many users: put, get as one batch, evict the least recently used by bytes, save and load."""

import dataclasses
import json
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from persrec.files import WriteError, atomic
from persrec.layout import SegmentLayout, layout_id
from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import KVCache
from persrec.serving.entries import StoredUser, StoreFacts, batch_of, user_row
from persrec.serving.precision import KEYS_OF_MEMORY, STORED_DTYPES, CacheForm, pack

User = int | str
VERSION = 4  # 2: the kind of backbone that computed the caches; 3: the ids that a counting output reads; 4: recent items, a memory's states
FLAGS = ("timed", "counts_history", "counts_recent")
METADATA = "store"  # of the file: what is not a tensor, as JSON


class CacheStore:
    """Caches by user, in the CPU's memory. All are of one model: of one layout, with or without times throughout.

    It takes a compressed history, and what `SequentialRecommender.append` keeps of it with the recent items. Of a memory it takes the
    states of the history alone.

    A cache says of which layout it is and not of which weights: a model that is trained anew needs a new store.

    Args:
        layout: of the model whose caches are kept.
        dtype: how keys and values are kept, one of `persrec.names.CACHE_PRECISIONS`; `persrec.serving.pack` says what each loses.
        budget_bytes: what `nbytes` never exceeds: the least recently put or got are evicted first. None is no bound.

    Raises:
        ValueError: the precision is unknown, or the budget is negative.
    """

    def __init__(self, *, layout: SegmentLayout, dtype: str = "float32", budget_bytes: int | None = None) -> None:
        if dtype not in CACHE_PRECISIONS:
            raise ValueError(f"dtype: unknown {dtype!r}; known: {', '.join(CACHE_PRECISIONS)}")
        _check_budget(budget_bytes)
        self.layout = layout
        self.dtype = dtype
        self.budget_bytes = budget_bytes
        self._entries: dict[User, StoredUser] = {}  # the least recently used first
        self._nbytes = 0
        self._facts = StoreFacts(layout=layout, dtype=dtype)

    @property
    def users(self) -> tuple[User, ...]:
        """Everyone in the store, the least recently used first."""
        return tuple(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept of the users: keys, values, scales, which positions are valid, times, ids that are counted."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, user: object) -> bool:
        return user in self._entries

    def put(self, user: User, cache: KVCache) -> tuple[User, ...]:
        """Keeps the cache of one user in place of an earlier one.

        Returns:
            Who was evicted to make room.

        Raises:
            ValueError: the cache is of another layout, of several users, not like those in the store (times, backbone, type
                and sizes of its numbers), not finite, of a memory with recent items, or larger than the whole budget. The store is
                then as it was.
        """
        return self.put_each([user], cache)

    def put_each(self, users: Sequence[User], cache: KVCache) -> tuple[User, ...]:
        """As `put`, for the users of a batch, one a row."""
        names = [_checked_user(user) for user in users]
        facts = self._facts_with(names, cache)
        packed = pack(cache, self.dtype)
        entries = [user_row(packed, row) for row in range(len(names))]
        for user, entry in zip(names, entries, strict=True):
            if self.budget_bytes is not None and entry.nbytes > self.budget_bytes:
                raise ValueError(f"cache: {entry.nbytes} bytes of user {user!r}; expected at most the budget, {self.budget_bytes}")
        self._facts = facts
        evicted: list[User] = []
        for user, entry in zip(names, entries, strict=True):
            self._remove(user)
            if self.budget_bytes is not None:
                evicted += self.evict(self.budget_bytes - entry.nbytes)
            self._entries[user] = entry
            self._nbytes += entry.nbytes
        return tuple(evicted)

    def get(self, users: Sequence[User], *, device: torch.device | str = "cpu", room: int = 0) -> KVCache:
        """The caches of some users as one batch, in their order; they are the most recently used from now on.

        With ``room`` for the recent items that are still to come, a request does not copy the caches again: see `KVCache.rooms`. A
        memory's states have no keys yet, and so no room.

        A history of fewer segments is followed by hidden positions, as if its later segments were empty. So each user is
        served as from the user's own cache alone. Extend users of as many segments together: the next segment of a batch is the
        one behind its longest history.

        Raises:
            ValueError: a user is not in the store, the room is below 0, the caches hold different numbers of recent items, or the layout
                shows the experts of empty segments and the histories are of different lengths (extend the shorter ones by segments
                of padding before they are put).
        """
        if room < 0:
            raise ValueError(f"room: {room}; expected 0 or more")
        names = [_checked_user(user) for user in users]
        for user in names:
            if user not in self._entries:
                raise ValueError(f"users: {user!r} is not in the store of {len(self)} users")
        entries = [self._entries[user] for user in names]
        lengths, recent = {entry.segments for entry in entries}, {entry.recent for entry in entries}
        if len(recent) > 1:
            raise ValueError(f"users: their caches hold {sorted(recent)} recent items; expected as many of each")
        if len(lengths) > 1 and not self.layout.hide_empty_experts:
            raise ValueError(
                f"users: their caches hold {sorted(lengths)} segments, and the layout shows the experts of empty ones; "
                "expected as many segments of each"
            )
        for user in names:
            self._entries[user] = self._entries.pop(user)
        return batch_of(entries, self._facts, torch.device(device)).unpack(room=room)

    def evict(self, budget_bytes: int) -> tuple[User, ...]:
        """Forgets the least recently used until what is left takes ``budget_bytes`` at most; returns who was forgotten."""
        _check_budget(budget_bytes)
        evicted = []
        while self._nbytes > budget_bytes:
            user = next(iter(self._entries))
            self._remove(user)
            evicted.append(user)
        return tuple(evicted)

    def remove(self, user: User) -> None:
        """Forgets a user.

        Raises:
            ValueError: the user is not in the store.
        """
        if user not in self._entries:
            raise ValueError(f"user: {user!r} is not in the store of {len(self)} users")
        self._remove(user)

    def save(self, path: Path) -> None:
        """Writes the store to one file of the safetensors form, whole or not at all; a file there is replaced.

        Raises:
            WriteError: the disk is full or may not be written; the old file is still there.
        """
        entries, common = list(self._entries.values()), self._facts
        facts = {
            "version": VERSION,
            "layout": layout_id(self.layout),
            "dtype": self.dtype,
            "form": None if common.form is None else dataclasses.asdict(common.form),
            **{name: getattr(common, name) for name in FLAGS},
            "users": [[user, entry.segments, entry.recent] for user, entry in self._entries.items()],
        }
        tensors = {"valid": torch.cat([torch.zeros(0, dtype=torch.bool), *(entry.valid for entry in entries)])}
        if common.form is not None:
            tensors["values"] = torch.cat([self._no_values(common.form), *(entry.values for entry in entries if len(entry.valid))])
            if self.dtype == "int8":
                scales = [entry.scales for entry in entries if entry.scales is not None and len(entry.valid)]
                tensors["scales"] = torch.cat([torch.zeros(0, common.form.vectors, dtype=torch.float32), *scales])
        if common.timed:
            times = [entry.times for entry in entries if entry.times is not None]
            tensors["times"] = torch.cat([torch.zeros(0, dtype=torch.int64), *times])
        if common.counts_history or common.counts_recent:
            ids = [entry.items for entry in entries if entry.items is not None]
            tensors["items"] = torch.cat([torch.zeros(0, dtype=torch.int32), *ids])
        try:
            with atomic(path) as file:
                save_file(tensors, file.name, metadata={METADATA: json.dumps(facts)})
        except SafetensorError as error:
            raise WriteError(f"{path}: cannot be written: {error}") from error

    @classmethod
    def load(cls, path: Path, *, layout: SegmentLayout, budget_bytes: int | None = None) -> Self:
        """The store in a file, in its order of use; beyond a smaller budget the least recently used are left out.

        Raises:
            ValueError: the file cannot be read, is no store, is of another layout, or a tensor in it does not fit.
        """
        facts, tensors = _read(path)
        if facts.get("version") != VERSION or facts.get("layout") != layout_id(layout):
            actual = f"of version {facts.get('version')!r} and layout {facts.get('layout')!r}"
            raise ValueError(f"store: {path} is {actual}; expected {VERSION} and {layout_id(layout)!r}")
        try:
            store = cls(layout=layout, dtype=facts["dtype"], budget_bytes=budget_bytes)
            store._fill(facts, tensors)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, OverflowError) as error:
            raise ValueError(f"store: {path} does not hold up: {type(error).__name__}: {error}") from error
        return store

    def _fill(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes the users of a file; see `save` for what it holds."""
        form = facts["form"]
        if form is not None:
            form = CacheForm(**form)
            if form.states != self.layout.recurrent:
                raise ValueError("form: states of a layout that keeps keys and values, or the other way round")
        self._facts = common = replace(self._facts, form=form, **{name: facts[name] for name in FLAGS})
        users = [(_checked_user(user), segments, recent) for user, segments, recent in facts["users"]]
        _check_entries(users, self.layout)
        counts = [len(common.positions(segments, recent)) for _, segments, recent in users]
        most_segments = max((segments for _, segments, _ in users), default=0)
        common.check_said(users=len(users), segments=most_segments, recent=max((recent for _, _, recent in users), default=0))
        if common.form is None and any(counts):
            raise ValueError("form: nothing, with positions that are kept; expected theirs")
        widths = [common.count_of_ids(segments, recent) for _, segments, recent in users]
        self._check_tensors(tensors, sum(counts), sum(widths))
        start = first = 0
        for (user, segments, recent), count, width in zip(users, counts, widths, strict=True):
            rows = {name: slice(first, first + width) if name == "items" else slice(start, start + count) for name in tensors}
            copies = {name: tensor[rows[name]].clone() for name, tensor in tensors.items()}  # a view would keep the whole file in memory
            entry = StoredUser(
                values=copies.get("values", torch.zeros(count, 0, dtype=torch.float32)),
                scales=copies.get("scales"),
                valid=copies["valid"],
                times=copies.get("times"),
                items=copies.get("items"),
                segments=segments,
                recent=recent,
            )
            self._entries[user] = entry
            self._nbytes += entry.nbytes
            start, first = start + count, first + width
        if self.budget_bytes is not None:
            self.evict(self.budget_bytes)

    def _check_tensors(self, tensors: Mapping[str, torch.Tensor], positions: int, items: int) -> None:
        form = self._facts.form
        expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"valid": ((positions,), torch.bool)}
        if form is not None:
            expected["values"] = ((positions, form.width), self._no_values(form).dtype)
            if self.dtype == "int8":
                expected["scales"] = ((positions, form.vectors), torch.float32)
        if self._facts.timed:
            expected["times"] = ((positions,), torch.int64)
        if self._facts.counts_history or self._facts.counts_recent:
            expected["items"] = ((items,), torch.int32)
        actual = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        for name in sorted(expected.keys() | actual.keys()):
            if actual.get(name) != expected.get(name):
                raise ValueError(f"{name}: {actual.get(name, 'missing')}; expected {expected.get(name, 'no such tensor')}")

    def _no_values(self, form: CacheForm) -> torch.Tensor:
        """``[0, W]`` of the type that values are kept in."""
        dtype = STORED_DTYPES[self.dtype]
        if self.dtype != "int8":
            dtype = min(dtype, STORED_DTYPES[form.dtype], key=lambda kind: kind.itemsize)
        return torch.zeros(0, form.width, dtype=dtype)

    def _facts_with(self, users: Sequence[User], cache: KVCache) -> StoreFacts:
        """What the entries have in common with the cache of these users among them.

        Raises:
            ValueError: the cache does not fit.
        """
        if cache.layout != layout_id(self.layout):
            raise ValueError(f"cache: of layout {cache.layout}; expected {layout_id(self.layout)}, the store's")
        rows, distinct = cache.valid.shape[0], len(set(users))
        if not rows == len(users) == distinct:
            raise ValueError(f"users: {len(users)}, {distinct} of them different, for a cache of {rows}; expected one each")
        if self.layout.recurrent and cache.layers:
            raise ValueError(KEYS_OF_MEMORY)
        positions = torch.from_numpy(self._facts.positions(cache.segments, cache.recent))
        if not torch.equal(cache.positions.cpu(), positions):
            raise ValueError(f"cache: positions {cache.positions.tolist()}; expected {positions.tolist()}, those that the layout keeps")
        form, common = CacheForm.of(cache), self._facts
        if not self._entries.keys() - set(users):  # what a store held that holds nothing else binds nobody
            common = StoreFacts(layout=self.layout, dtype=self.dtype)
        if form is not None and common.form is not None and form != common.form:
            raise ValueError(f"cache: of {form}; expected {common.form}, as the others")
        counts_history, counts_recent = self._counts_of(cache)
        flags = {
            "times": (cache.times is not None, common.timed),
            "ids that are counted": (counts_history, common.counts_history),
            "ids of recent items": (counts_recent, common.counts_recent),
        }
        for what, (flag, in_others) in flags.items():
            if flag is not None and in_others is not None and flag != in_others:
                actual, expected = ("with" if present else "without" for present in (flag, in_others))
                raise ValueError(f"cache: {actual} {what}; expected it {expected}, as the others")
        return replace(
            common,
            form=common.form or form,
            timed=cache.times is not None,
            counts_history=common.counts_history if counts_history is None else counts_history,
            counts_recent=common.counts_recent if counts_recent is None else counts_recent,
        )

    def _counts_of(self, cache: KVCache) -> tuple[bool | None, bool | None]:
        """Whether a cache holds the ids of its history, and those of its recent items; None for a kind of which it holds no item."""
        history, recent = self.layout.offset_at(cache.segments), cache.recent
        count = 0 if cache.items is None else cache.items.shape[1]
        if count not in {0, recent, history + recent}:
            of_recent = f" and {recent} recent items" if recent else ""
            raise ValueError(f"cache: ids of {count} items; expected {history + recent}, those of its {cache.segments} segments{of_recent}")
        return (count == history + recent if history else None), (count > 0 if recent else None)

    def _remove(self, user: User) -> None:
        entry = self._entries.pop(user, None)
        self._nbytes -= 0 if entry is None else entry.nbytes


def _check_entries(users: Sequence[tuple[User, Any, Any]], layout: SegmentLayout) -> None:
    """Raises a ValueError where a file's users are not different, or do not hold as many segments and recent items as the layout can."""
    if len({user for user, _, _ in users}) < len(users):
        raise ValueError("users: some stand twice")
    for user, segments, recent in users:
        counts = {"segments": (segments, len(layout.segments)), "recent items": (recent, 0 if layout.recurrent else layout.recent)}
        for what, (count, limit) in counts.items():
            if type(count) is not int or not 0 <= count <= limit:
                raise ValueError(f"users: {user!r} with {count!r} {what}; expected 0 to {limit}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The facts in a file's header, and its tensors; nothing is unpickled."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"store: {path} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"store: {path} says {type(facts).__name__} of itself; expected a table")  # noqa: TRY004 - bad input, not a bad call
    return facts, tensors


def _checked_user(user: object) -> User:
    """The user's name as JSON keeps it."""
    if isinstance(user, str):
        return user
    if isinstance(user, bool) or not isinstance(user, numbers.Integral):
        raise ValueError(f"users: {user!r} is {type(user).__name__}; expected int or str")  # noqa: TRY004 - bad input is one kind of error
    return int(user)


def _check_budget(budget_bytes: int | None) -> None:
    if budget_bytes is not None and budget_bytes < 0:
        raise ValueError(f"budget_bytes: {budget_bytes}; expected 0 or more")
