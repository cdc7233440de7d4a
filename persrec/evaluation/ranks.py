"""The rank of each user's target among all items: counted block by block, never sorted.

An item comes before the target when it scores higher, or ties and its hash is smaller. Products of equal vectors differ in
their last bits with the place in a matrix (a kernel's edge tiles sum in another order), so scores of unit vectors that are
closer than `SAME` tie: far below what tells two items apart, well above what tells two kernels apart. The hash is a fixed
bijection of the item id, so the order of ties is total, the same for every model and run, and not the order of ids.

A block of scores is written once, into a buffer that all blocks share, and read twice, to compare it with the target's
score at either side of `SAME`: where both counts agree nothing ties, and no hash is compared.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Seen = tuple[NDArray[np.int64] | Tensor, NDArray[np.int64] | Tensor]
Added = Callable[[slice], tuple[Tensor, Tensor]]

USERS_AT_ONCE = 1024
# items at once, by device: on a CPU few enough that their scores stay in its caches, on a GPU bounded in memory alone
ITEMS_AT_ONCE = {"cpu": 1024, "cuda": 16_384}
SAME = 1e-6  # of float32 products of unit vectors


@torch.no_grad()
def target_ranks(
    users: Tensor,
    items: Tensor,
    targets: NDArray[np.int64] | Tensor,
    seen: Seen | None = None,
    *,
    block: int = USERS_AT_ONCE,
    item_block: int | None = None,
    added: Added | None = None,
) -> NDArray[np.int64]:
    """Rank of each target, 1 is first, by the product of user and item vectors; item 0, padding, is never ranked.

    Scores are float32 on the vectors' device, under autocast too. Scores within `SAME` of the target's tie with it.

    Args:
        users: ``[n, D]`` unit vectors.
        items: ``[V, D]`` unit rows.
        targets: int64 ``[n]``, ``1..V-1``.
        seen: items that are left out of a user's ranking, as (offsets ``[n + 1]``, items); the target never is. Repeated
            items and padding among them do no harm.
        block: users at once.
        item_block: items at once, `ITEMS_AT_ONCE` by default; scores in memory are ``block * item_block`` numbers.
        added: gives for some users' rows ids ``[b, m]`` and what is added to the scores of these items ``[b, m]``, 0 for padding.

    Returns:
        int64 ``[n]``, on the CPU.

    Raises:
        ValueError: shapes that do not fit, an id out of range, a vector that is not finite, a block below 1.
    """
    for name, vectors in (("users", users), ("items", items)):
        if vectors.ndim != 2 or vectors.shape[1] != users.shape[-1]:
            raise ValueError(f"{name}: shape {tuple(vectors.shape)}; expected two dimensions, of one width for users and items")
        if not _all_finite(vectors):
            raise ValueError(f"{name}: holds NaN or infinity; expected finite vectors")
    users, items = users.float(), items.float()

    def target_scores(rows: slice, target_ids: Tensor) -> Tensor:
        cosines = (users[rows] * items[target_ids]).sum(1)
        if added is None:
            return cosines
        ids, added_scores = added(rows)
        return cosines + (added_scores.float() * (ids == target_ids[:, None])).sum(1)

    def write(rows: slice, columns: slice, out: Tensor) -> None:
        with torch.autocast(users.device.type, enabled=False):
            torch.mm(users[rows], items[columns].T, out=out)
        if added is not None:
            ids, added_scores = added(rows)
            inside = (ids >= columns.start) & (ids < columns.stop)
            out.scatter_add_(1, torch.where(inside, ids - columns.start, 0), torch.where(inside, added_scores.float(), 0.0))

    if len(users) != len(targets):
        raise ValueError(f"users: {len(users)} for {len(targets)} targets; expected one each")
    source = _Scores(of_targets=target_scores, write=write, items=len(items), tolerance=SAME, dtype=torch.float32, device=users.device)
    return _ranks(source, targets=targets, seen=seen, block=block, item_block=item_block)


@torch.no_grad()
def target_ranks_from_scores(
    scores: Tensor | NDArray[np.floating],
    targets: NDArray[np.int64] | Tensor,
    seen: Seen | None = None,
    *,
    block: int = USERS_AT_ONCE,
    item_block: int | None = None,
) -> NDArray[np.int64]:
    """As `target_ranks`, from scores ``[n, V]``, or ``[1, V]`` for one order that all users share; only equal scores tie.

    Raises:
        ValueError: as `target_ranks`; scores must be finite.
    """
    matrix = torch.as_tensor(scores)
    matrix = matrix if matrix.dtype in {torch.float32, torch.float64} else matrix.double()
    if matrix.ndim != 2 or len(matrix) not in {1, len(targets)}:
        raise ValueError(f"scores: shape {tuple(matrix.shape)}; expected ({len(targets)}, V) or (1, V)")
    if not _all_finite(matrix):
        raise ValueError("scores: hold NaN or infinity; expected finite numbers")
    matrix = matrix.expand(len(targets), -1)

    def target_scores(rows: slice, target_ids: Tensor) -> Tensor:
        return matrix[rows].gather(1, target_ids[:, None]).squeeze(1)

    def write(rows: slice, columns: slice, out: Tensor) -> None:
        out.copy_(matrix[rows, columns])

    source = _Scores(of_targets=target_scores, write=write, items=matrix.shape[1], tolerance=0.0, dtype=matrix.dtype, device=matrix.device)
    return _ranks(source, targets=targets, seen=seen, block=block, item_block=item_block)


def repeat_mask(targets: NDArray[np.int64], past: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Whether each target, ``[n]``, is among the user's past items, (offsets ``[n + 1]``, items); the others are novel."""
    offsets, items = past
    rows = np.repeat(np.arange(len(targets)), np.diff(offsets))
    hits = rows[items == targets[rows]]
    return np.bincount(hits, minlength=len(targets)) > 0


def tie_order(num_items: int) -> NDArray[np.int64]:
    """A fixed hash of each item id, ``[V]``; of two tied items the smaller hash ranks first.

    Splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64 bits, so no two ids share a hash.
    """
    state = np.arange(1, num_items + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))).view(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scores:
    """Where the scores of users by items come from: ``of_targets`` gives each target's, ``write`` puts a block into a buffer."""

    of_targets: Callable[[slice, Tensor], Tensor]
    write: Callable[[slice, slice, Tensor], None]
    items: int
    tolerance: float
    dtype: torch.dtype
    device: torch.device


def _ranks(
    source: _Scores, *, targets: NDArray[np.int64] | Tensor, seen: Seen | None, block: int, item_block: int | None
) -> NDArray[np.int64]:
    n, V, device = len(targets), source.items, source.device
    item_block = ITEMS_AT_ONCE.get(device.type, ITEMS_AT_ONCE["cpu"]) if item_block is None else item_block
    if min(block, item_block) < 1:
        raise ValueError(f"block: {block} users, {item_block} items; expected at least 1 of each")
    target_ids = torch.as_tensor(targets, dtype=torch.int64, device=device)
    if target_ids.ndim != 1 or (n and (int(target_ids.min()) < 1 or int(target_ids.max()) >= V)):
        raise ValueError(
            f"targets: shape {tuple(target_ids.shape)}, ids {target_ids.flatten()[:3].tolist()}...; expected item ids in 1..{V - 1}"
        )
    offsets, seen_items = _checked_seen(seen, n, V, device)
    order = torch.from_numpy(tie_order(V)).to(device)
    starts = range(0, V, item_block)
    buffer, flags = torch.empty(2, min(block, n) * min(item_block, V), dtype=source.dtype, device=device)
    ranks = np.empty(n, dtype=np.int64)
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        block_targets = target_ids[rows]
        target_scores = source.of_targets(rows, block_targets)
        items_before = torch.zeros_like(block_targets)
        for start, (excluded_rows, excluded_columns) in zip(
            starts, _excluded_places(offsets, seen_items, rows, block_targets, starts), strict=True
        ):
            columns = slice(start, min(start + item_block, V))
            values = buffer[: len(block_targets) * (columns.stop - start)].view(len(block_targets), -1)
            source.write(rows, columns, values)
            values[excluded_rows, excluded_columns] = -torch.inf
            if start == 0:
                values[:, 0] = -torch.inf  # padding
            above_count = _count(torch.gt, values, target_scores + source.tolerance, flags)
            not_below_count = _count(torch.ge, values, target_scores - source.tolerance, flags)
            items_before += above_count
            tied_rows = torch.nonzero(above_count != not_below_count).squeeze(1)
            if len(tied_rows):
                items_before[tied_rows] += _earlier_ties(
                    values[tied_rows], target_scores[tied_rows], order[columns], order[block_targets[tied_rows]], source.tolerance
                )
        ranks[rows] = (items_before + 1).cpu().numpy()
    return ranks


def _earlier_ties(values: Tensor, target_scores: Tensor, hashes: Tensor, hash_of_target: Tensor, tolerance: float) -> Tensor:
    """How many items of a block tie with each target and have the smaller hash."""
    tied = (values >= (target_scores - tolerance)[:, None]) & (values <= (target_scores + tolerance)[:, None])
    return (tied & (hashes[None, :] < hash_of_target[:, None])).sum(dim=1)


def _count(compare: Callable[..., Tensor], values: Tensor, bounds: Tensor, flags: Tensor) -> Tensor:
    """Per row, how many values compare so with its bound. Flags of the values' type are several times faster than booleans."""
    flags = flags[: values.numel()].view(values.shape)
    compare(values, bounds[:, None], out=flags)
    return flags.sum(dim=1).long()


def _excluded_places(offsets: Tensor, seen_items: Tensor, users: slice, targets: Tensor, starts: range) -> Iterator[tuple[Tensor, Tensor]]:
    """For each block of items, the rows, from 0, and columns of the scores that are not counted: of seen items and of targets."""
    counts = offsets[users.start + 1 : users.stop + 1] - offsets[users]
    target_rows = torch.arange(len(targets), device=seen_items.device)
    rows = torch.cat([target_rows, torch.repeat_interleave(target_rows, counts)])
    items = torch.cat([targets, seen_items[int(offsets[users.start]) : int(offsets[users.stop])]])
    if len(starts) == 1:
        yield rows, items
        return
    items, order = items.sort()
    rows = rows[order]
    edges = torch.searchsorted(items, torch.tensor([*starts, starts.stop], device=items.device)).tolist()
    for start, (first, last) in zip(starts, itertools.pairwise(edges), strict=True):
        yield rows[first:last], items[first:last] - start


def _all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite: their sum shows it in one pass, unless it overflows."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _checked_seen(seen: Seen | None, n: int, V: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if seen is None:
        return torch.zeros(n + 1, dtype=torch.int64, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    offsets, items = (torch.as_tensor(part, dtype=torch.int64, device=device) for part in seen)
    if offsets.shape != (n + 1,) or int(offsets[0]) != 0 or int(offsets[-1]) != len(items) or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f"seen: offsets of shape {tuple(offsets.shape)}; expected {n + 1}, ascending from 0 to {len(items)}, the items' number"
        )
    if len(items) and (int(items.min()) < 0 or int(items.max()) >= V):
        raise ValueError(f"seen: item ids {int(items.min())}..{int(items.max())} leave 0..{V - 1}")
    return offsets, items
