"""The caches of many users: put, get as one batch, evict the least recently used by bytes, save and load."""

import dataclasses
import json
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from persrec.files import WriteError, atomic
from persrec.layout import SegmentLayout, layout_id
from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import KVCache
from persrec.serving.precision import STORED_DTYPES, CacheForm, PackedCache, pack

User = int | str
VERSION = 3  # 2: says by which kind of backbone the caches were computed; 3: holds the ids that a counting output reads
METADATA = "store"  # of the file: what is not a tensor, as JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class _StoredUser:
    """One user's cache, packed: ``values`` ``[p, W]``, ``scales`` ``[p, S]``, ``valid`` and ``times`` ``[p]``, ``items`` ``[m]``."""

    values: torch.Tensor
    scales: torch.Tensor | None
    valid: torch.Tensor
    times: torch.Tensor | None
    items: torch.Tensor | None
    segments: int

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        tensors = [tensor for tensor in (self.values, self.scales, self.valid, self.times, self.items) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class CacheStore:
    """Caches by user, in the CPU's memory. All are of one model: of one layout, with or without times throughout.

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
        if layout.recurrent:
            raise ValueError("layout: of a recurrent memory, which keeps states; expected one that keeps keys and values")
        _check_budget(budget_bytes)
        self.layout = layout
        self.dtype = dtype
        self.budget_bytes = budget_bytes
        self._entries: dict[User, _StoredUser] = {}  # the least recently used first
        self._nbytes = 0
        self._form: CacheForm | None = None
        self._timed: bool | None = None
        self._counted: bool | None = None

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
                and sizes of its numbers), not finite, or larger than the whole budget. The store is then as it was.
        """
        return self.put_each([user], cache)

    def put_each(self, users: Sequence[User], cache: KVCache) -> tuple[User, ...]:
        """As `put`, for the users of a batch, one a row."""
        names = [_checked_user(user) for user in users]
        self._check(names, cache)
        packed = pack(cache, self.dtype)
        form = self._form or packed.form
        entries = [_user_row(packed, row) for row in range(len(names))]
        for user, entry in zip(names, entries, strict=True):
            if self.budget_bytes is not None and entry.nbytes > self.budget_bytes:
                raise ValueError(f"cache: {entry.nbytes} bytes of user {user!r}; expected at most the budget, {self.budget_bytes}")
        self._form, self._timed, self._counted = form, cache.times is not None, cache.items is not None
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

        With ``room`` for as many positions as the layout has recent items, a request does not copy the caches again: see
        `KVCache.rooms`.

        A history of fewer segments is followed by hidden positions, as if its later segments were empty. So each user is
        served as from the own cache alone. Extend users of as many segments together: the next segment of a batch is the
        one behind its longest history.

        Raises:
            ValueError: a user is not in the store, the room is below 0, or the layout shows the experts of empty segments and the
                histories are of different lengths (extend the shorter ones by segments of padding before they are put).
        """
        if room < 0:
            raise ValueError(f"room: {room}; expected 0 or more")
        names = [_checked_user(user) for user in users]
        for user in names:
            if user not in self._entries:
                raise ValueError(f"users: {user!r} is not in the store of {len(self)} users")
        entries = [self._entries[user] for user in names]
        lengths = {entry.segments for entry in entries}
        if len(lengths) > 1 and not self.layout.hide_empty_experts:
            raise ValueError(
                f"users: their caches hold {sorted(lengths)} segments, and the layout shows the experts of empty ones; "
                "expected as many segments of each"
            )
        for user in names:
            self._entries[user] = self._entries.pop(user)
        return _batch_of(entries, self, torch.device(device)).unpack(room=room)

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
        entries = list(self._entries.values())
        facts = {
            "version": VERSION,
            "layout": layout_id(self.layout),
            "dtype": self.dtype,
            "form": None if self._form is None else dataclasses.asdict(self._form),
            "timed": self._timed,
            "counted": self._counted,
            "users": [[user, entry.segments] for user, entry in self._entries.items()],
        }
        tensors = {"valid": torch.cat([torch.zeros(0, dtype=torch.bool), *(entry.valid for entry in entries)])}
        if self._form is not None:
            tensors["values"] = torch.cat([self._no_values(), *(entry.values for entry in entries if len(entry.valid))])
            if self.dtype == "int8":
                scales = [entry.scales for entry in entries if entry.scales is not None and len(entry.valid)]
                tensors["scales"] = torch.cat([torch.zeros(0, self._form.heads, dtype=torch.float32), *scales])
        if self._timed:
            times = [entry.times for entry in entries if entry.times is not None]
            tensors["times"] = torch.cat([torch.zeros(0, dtype=torch.int64), *times])
        if self._counted:
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
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"store: {path} does not hold up: {type(error).__name__}: {error}") from error
        return store

    def _fill(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes the users of a file; see `save` for what it holds."""
        form = facts["form"]
        self._timed, self._counted = facts["timed"], facts["counted"]
        if form is not None:
            vectors = tuple((int(heads), int(width)) for heads, width in form["vectors"])
            self._form = CacheForm(dtype=form["dtype"], vectors=vectors, backbone=str(form["backbone"]))
        users = [(_checked_user(user), int(segments)) for user, segments in facts["users"]]
        counts = [len(self.layout.kept_positions(segments)) for _, segments in users]
        widths = [(0, *self.layout.offsets)[segments] for _, segments in users]
        self._check_tensors(tensors, sum(counts), sum(widths))
        start = first = 0
        for (user, segments), count, width in zip(users, counts, widths, strict=True):
            rows = {name: slice(first, first + width) if name == "items" else slice(start, start + count) for name in tensors}
            copies = {name: tensor[rows[name]].clone() for name, tensor in tensors.items()}  # a view would keep the whole file in memory
            entry = _StoredUser(
                values=copies.get("values", torch.zeros(count, 0, dtype=torch.float32)),
                scales=copies.get("scales"),
                valid=copies["valid"],
                times=copies.get("times"),
                items=copies.get("items"),
                segments=segments,
            )
            self._entries[user] = entry
            self._nbytes += entry.nbytes
            start, first = start + count, first + width
        if self.budget_bytes is not None:
            self.evict(self.budget_bytes)

    def _check_tensors(self, tensors: Mapping[str, torch.Tensor], positions: int, items: int) -> None:
        expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"valid": ((positions,), torch.bool)}
        if self._form is not None:
            expected["values"] = ((positions, self._form.width), self._no_values().dtype)
            if self.dtype == "int8":
                expected["scales"] = ((positions, self._form.heads), torch.float32)
        if self._timed:
            expected["times"] = ((positions,), torch.int64)
        if self._counted:
            expected["items"] = ((items,), torch.int32)
        actual = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        for name in sorted(expected.keys() | actual.keys()):
            if actual.get(name) != expected.get(name):
                raise ValueError(f"{name}: {actual.get(name, 'missing')}; expected {expected.get(name, 'no such tensor')}")

    def _no_values(self) -> torch.Tensor:
        """``[0, W]`` of the type that values are kept in."""
        assert self._form is not None  # noqa: S101 - asked for where there are values
        dtype = STORED_DTYPES[self.dtype]
        if self.dtype != "int8":
            dtype = min(dtype, STORED_DTYPES[self._form.dtype], key=lambda kind: kind.itemsize)
        return torch.zeros(0, self._form.width, dtype=dtype)

    def _check(self, users: Sequence[User], cache: KVCache) -> None:
        if cache.layout != layout_id(self.layout):
            raise ValueError(f"cache: of layout {cache.layout}; expected {layout_id(self.layout)}, the store's")
        rows, distinct = cache.valid.shape[0], len(set(users))
        if not rows == len(users) == distinct:
            raise ValueError(f"users: {len(users)}, {distinct} of them different, for a cache of {rows}; expected one each")
        positions = torch.from_numpy(self.layout.kept_positions(cache.segments))
        if not torch.equal(cache.positions.cpu(), positions):
            raise ValueError(f"cache: positions {cache.positions.tolist()}; expected {positions.tolist()}, those that the layout keeps")
        form, timed = CacheForm.of(cache), cache.times is not None
        if form is not None and self._form is not None and form != self._form:
            raise ValueError(f"cache: of {form}; expected {self._form}, as the others")
        for field, is_there, in_others in (("times", timed, self._timed), ("ids that are counted", cache.items is not None, self._counted)):
            if in_others is not None and is_there != in_others:
                actual, expected = ("with" if flag else "without" for flag in (is_there, in_others))
                raise ValueError(f"cache: {actual} {field}; expected it {expected}, as the others")
        width = (0, *self.layout.offsets)[cache.segments]
        if cache.items is not None and cache.items.shape[1] != width:
            raise ValueError(f"cache: ids of {cache.items.shape[1]} items; expected {width}, those of its {cache.segments} segments")

    def _remove(self, user: User) -> None:
        entry = self._entries.pop(user, None)
        self._nbytes -= 0 if entry is None else entry.nbytes


def _user_row(packed: PackedCache, row: int) -> _StoredUser:
    """One user's part of a batch, with tensors of its own on the CPU: a view would keep the batch in memory."""

    def row_copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor[row].detach().to("cpu", copy=True)

    values, valid = row_copy(packed.values), row_copy(packed.valid)
    assert values is not None  # noqa: S101 - always there
    assert valid is not None  # noqa: S101
    return _StoredUser(
        values=values,
        scales=row_copy(packed.scales),
        valid=valid,
        times=row_copy(packed.times),
        items=row_copy(packed.items),
        segments=packed.segments,
    )


def _batch_of(entries: Sequence[_StoredUser], store: CacheStore, device: torch.device) -> PackedCache:
    """The entries side by side, the shorter ones with hidden positions behind."""
    segments = max((entry.segments for entry in entries), default=0)
    positions = torch.from_numpy(store.layout.kept_positions(segments))
    counts = torch.tensor([len(entry.valid) for entry in entries], dtype=torch.int64)
    is_filled = torch.arange(len(positions)) < counts[:, None]
    nonempty = [entry for entry in entries if len(entry.valid)]
    same_length = bool(is_filled.all())

    def side_by_side(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        """``[p, ...]`` of each entry to ``[B, P, ...]``."""
        tensors = [part for part in parts if part is not None]
        if not tensors:
            return None
        if same_length:
            return torch.stack(tensors).to(device)
        rows = torch.cat(tensors)
        batch = rows.new_zeros(*is_filled.shape, *rows.shape[1:])
        batch[is_filled] = rows
        return batch.to(device)

    times = side_by_side([entry.times for entry in nonempty])
    if times is None and store._timed:
        times = torch.zeros(is_filled.shape, dtype=torch.int64)
    valid = side_by_side([entry.valid for entry in nonempty])
    is_single = same_length and len(nonempty) == 1  # its numbers are copied as they are unpacked
    values = nonempty[0].values[None].to(device) if is_single else side_by_side([entry.values for entry in nonempty])
    return PackedCache(
        values=torch.zeros(*is_filled.shape, 0, dtype=torch.float32) if values is None else values,
        scales=side_by_side([entry.scales for entry in nonempty]),
        dtype=store.dtype,
        form=store._form if nonempty else None,
        positions=positions.to(device),
        valid=(is_filled if valid is None else valid).to(device),
        times=None if times is None else times.to(device),
        segments=segments,
        layout=layout_id(store.layout),
        items=_ids_of(entries, (0, *store.layout.offsets)[segments], device) if store._counted else None,
    )


def _ids_of(entries: Sequence[_StoredUser], width: int, device: torch.device) -> torch.Tensor:
    """The entries' counted ids ``[B, width]``, those of shorter histories with padding behind."""
    ids = torch.zeros(len(entries), width, dtype=torch.int32)
    for row, entry in zip(ids, entries, strict=True):
        if entry.items is not None:
            row[: len(entry.items)] = entry.items
    return ids.to(device)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The facts in a file's header, and its tensors; nothing is unpickled."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
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
