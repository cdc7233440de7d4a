"""The rank of each user's target among all items: counted block by block, never sorted.

An item comes before the target when it scores higher, or ties and its hash is smaller. Products of equal vectors differ in
their last bits with the place in a matrix (a kernel's edge tiles sum in another order), so scores of unit vectors that are
closer than `SAME` tie: far below what tells two items apart, well above what tells two kernels apart. The hash is a fixed
bijection of the item id, so the order of ties is total, the same for every model and run, and not the order of ids.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Seen = tuple[NDArray[np.int64] | Tensor, NDArray[np.int64] | Tensor]

USERS_AT_ONCE = 512
ITEMS_AT_ONCE = 16_384  # 32 MiB of float32 scores with the users above
SAME = 1e-6  # of float32 products of unit vectors


@torch.no_grad()
def target_ranks(
    users: Tensor,
    items: Tensor,
    targets: NDArray[np.int64] | Tensor,
    seen: Seen | None = None,
    *,
    block: int = USERS_AT_ONCE,
    item_block: int = ITEMS_AT_ONCE,
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
        item_block: items at once; scores in memory are ``block * item_block`` numbers.

    Returns:
        int64 ``[n]``, on the CPU.

    Raises:
        ValueError: shapes that do not fit, an id out of range, a vector that is not finite, a block below 1.
    """
    for name, vectors in (("users", users), ("items", items)):
        if vectors.ndim != 2 or vectors.shape[1] != users.shape[-1]:
            raise ValueError(f"{name}: shape {tuple(vectors.shape)}; expected two dimensions, of one width for users and items")
        if not bool(torch.isfinite(vectors).all()):
            raise ValueError(f"{name}: holds NaN or infinity; expected finite vectors")
    users, items = users.float(), items.float()

    def scores(first: int, last: int, start: int) -> Tensor:
        with torch.autocast(users.device.type, enabled=False):
            return users[first:last] @ items[start : start + item_block].T

    if len(users) != len(targets):
        raise ValueError(f"users: {len(users)} for {len(targets)} targets; expected one each")
    return _ranks(
        scores, num_items=len(items), targets=targets, seen=seen, block=block, item_block=item_block, same=SAME, device=users.device
    )


@torch.no_grad()
def target_ranks_from_scores(
    scores: Tensor | NDArray[np.floating],
    targets: NDArray[np.int64] | Tensor,
    seen: Seen | None = None,
    *,
    block: int = USERS_AT_ONCE,
    item_block: int = ITEMS_AT_ONCE,
) -> NDArray[np.int64]:
    """As `target_ranks`, from scores ``[n, V]``, or ``[1, V]`` for one order that all users share; only equal scores tie.

    Raises:
        ValueError: as `target_ranks`; scores must be finite.
    """
    whole = torch.as_tensor(scores)
    whole = whole if whole.is_floating_point() else whole.double()
    if whole.ndim != 2 or len(whole) not in {1, len(targets)}:
        raise ValueError(f"scores: shape {tuple(whole.shape)}; expected ({len(targets)}, V) or (1, V)")
    if not bool(torch.isfinite(whole).all()):
        raise ValueError("scores: hold NaN or infinity; expected finite numbers")
    n, V = len(targets), whole.shape[1]

    def part(first: int, last: int, start: int) -> Tensor:
        rows = whole[first:last] if len(whole) == n else whole.expand(last - first, V)
        return rows[:, start : start + item_block].clone()

    return _ranks(part, num_items=V, targets=targets, seen=seen, block=block, item_block=item_block, same=0.0, device=whole.device)


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


def _ranks(
    scores: Callable[[int, int, int], Tensor],
    *,
    num_items: int,
    targets: NDArray[np.int64] | Tensor,
    seen: Seen | None,
    block: int,
    item_block: int,
    same: float,
    device: torch.device,
) -> NDArray[np.int64]:
    """Counts in blocks; ``scores(first, last, start)`` gives users ``first:last`` by up to ``item_block`` items from ``start``."""
    if min(block, item_block) < 1:
        raise ValueError(f"block: {block} users, {item_block} items; expected at least 1 of each")
    n, V = len(targets), num_items
    wanted = torch.as_tensor(targets, dtype=torch.int64, device=device)
    if wanted.ndim != 1 or (n and (int(wanted.min()) < 1 or int(wanted.max()) >= V)):
        raise ValueError(f"targets: shape {tuple(wanted.shape)}, ids {wanted.flatten()[:3].tolist()}...; expected item ids in 1..{V - 1}")
    offsets, known = _checked_seen(seen, n, V, device)
    order = torch.from_numpy(tie_order(V)).to(device)
    starts = range(0, V, item_block)
    ranks = np.empty(n, dtype=np.int64)
    for first in range(0, n, block):
        last = min(first + block, n)
        of = wanted[first:last]
        left_out = _left_out(offsets, known, first, last, of)
        at = partial(scores, first, last)
        if len(starts) == 1:  # one product serves both passes
            at = partial(_same, at(0))
        own = _own(at, starts, of)
        before = torch.zeros_like(of)
        for start in starts:
            before += _before(at(start), own, order, of, start=start, left_out=left_out, same=same)
        ranks[first:last] = (before + 1).cpu().numpy()
    return ranks


def _same(values: Tensor, start: int) -> Tensor:  # noqa: ARG001 - stands for the function of a block's start
    return values


def _own(at: Callable[[int], Tensor], starts: range, targets: Tensor) -> Tensor:
    """The targets' own scores, each picked from the block that holds it."""
    own: Tensor | None = None
    for start in starts:
        values = at(start)
        own = values.new_empty(len(targets)) if own is None else own
        inside = torch.nonzero((targets >= start) & (targets < start + values.shape[1])).squeeze(1)
        own[inside] = values[inside, targets[inside] - start]
    assert own is not None  # noqa: S101 - there is at least one block
    return own


def _before(
    values: Tensor, own: Tensor, order: Tensor, targets: Tensor, *, start: int, left_out: tuple[Tensor, Tensor], same: float
) -> Tensor:
    """How many items of a block come before each target; what is left out counts as minus infinity."""
    rows, items = left_out
    here = (items >= start) & (items < start + values.shape[1])
    values[rows[here], items[here] - start] = -torch.inf
    if start == 0:
        values[:, 0] = -torch.inf  # padding
    above = values - own[:, None]
    hashes = order[start : start + values.shape[1]]
    tied = (above.abs() <= same) & (hashes[None, :] < order[targets][:, None])
    return (above > same).sum(dim=1) + tied.sum(dim=1)


def _left_out(offsets: Tensor, known: Tensor, first: int, last: int, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, from 0, and items that users ``first:last`` have seen, their targets excepted."""
    counts = offsets[first + 1 : last + 1] - offsets[first:last]
    rows = torch.repeat_interleave(torch.arange(last - first, device=known.device), counts)
    items = known[int(offsets[first]) : int(offsets[last])]
    others = items != targets[rows]
    return rows[others], items[others]


def _checked_seen(seen: Seen | None, n: int, V: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if seen is None:
        return torch.zeros(n + 1, dtype=torch.int64, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    offsets, known = (torch.as_tensor(part, dtype=torch.int64, device=device) for part in seen)
    if offsets.shape != (n + 1,) or int(offsets[0]) != 0 or int(offsets[-1]) != len(known) or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f"seen: offsets of shape {tuple(offsets.shape)}; expected {n + 1}, ascending from 0 to {len(known)}, the items' number"
        )
    if len(known) and (int(known.min()) < 0 or int(known.max()) >= V):
        raise ValueError(f"seen: item ids {int(known.min())}..{int(known.max())} leave 0..{V - 1}")
    return offsets, known
