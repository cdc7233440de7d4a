"""Cached against joint over many random plans of every backbone: ``python -m tests.contracts.thousand_plans``.

A plan is a number of segments with items and experts each, experts reserved or not, shown or hidden where a segment is
empty, and recent items. Its users are padded anywhere, have times or none, and ask with some of their recent items. The
gap of a plan is the largest difference, over users and items, between a score of the joint pass and the same score from
the cache, compressed at once and extended segment by segment, and from requests that append to it, with room or without.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))  # as conftest.py does for tests

TOLERANCE = 1e-5


def random_plan(random: np.random.Generator):
    """Experts of one random plan."""
    from small_models import WIDTH

    from persrec.compression.experts import Experts
    from persrec.layout import Segment, SegmentLayout

    segments = []
    for _ in range(random.integers(1, 6)):
        count = int(random.integers(0, 5))
        reserved = None if random.random() < 0.5 else count + int(random.integers(0, 3))
        segments.append(Segment(items=int(random.integers(1, 13)), experts=count, expert_slots=reserved))
    recent, hides = int(random.integers(1, 9)), bool(random.random() < 0.5)
    return Experts(layout=SegmentLayout(segments=tuple(segments), recent=recent, hide_empty_experts=hides), width=WIDTH)


@torch.no_grad()
def gap_of_plan(backbone: str, seed: int) -> float:
    """The gap of the plan that ``seed`` draws."""
    from small_models import build, random_windows

    random = np.random.default_rng(seed)
    model = build(backbone, random_plan(random), seed=seed)
    items, times, query_time = random_windows(model.layout, seed=seed)
    history, recent = model.layout.history, int(random.integers(1, model.layout.recent + 1))
    timed = random.random() < 0.7
    items[:, history + recent :] = times[:, history + recent :] = 0

    def columns(start, stop):
        return items[:, start:stop], times[:, start:stop] if timed else None

    asked = query_time if timed and random.random() < 0.5 else None
    joint = model.score(*columns(0, items.shape[1]), asked)
    offsets = model.layout.offsets
    extended = model.compress(*columns(0, offsets[0]))
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        extended = model.extend(extended, *columns(start, stop))
    asks = (items[:, history : history + recent] != 0).any(1)
    if not asks.any():
        return 0.0
    given = [None if part is None else part[asks] for part in (*columns(history, history + recent), asked)]
    caches = (cache.of_users(asks.nonzero().flatten()) for cache in (model.compress(*columns(0, history)), extended))
    served = max(float((model.score(*given, cache=cache) - joint[asks]).abs().max()) for cache in caches)
    return max(served, gap_of_appending(model, items, times, timed=timed, random=random))


@torch.no_grad()
def gap_of_appending(model, items, times, *, timed: bool, random: np.random.Generator) -> float:
    """The largest difference over requests that bring one or several recent items each; all users have all of them, as `append` asks."""
    history, window = model.layout.history, model.layout.window
    drawn = torch.from_numpy(random.integers(1, model.items.count, (len(items), window - history)))
    items, times = items.clone(), times.clone()
    items[:, history:] = torch.where(items[:, history:] == 0, drawn, items[:, history:])
    times[:, history:] = times.max() + 1000 * torch.arange(1, window - history + 1)
    cache, features = model.compress(items[:, :history], times[:, :history] if timed else None), model.item_features()
    cache = model.with_room(cache) if random.random() < 0.5 else cache
    stop, worst = history, 0.0
    while stop < window:
        known, stop = history + cache.recent, int(random.integers(stop + 1, window + 1))
        asked = times[:, stop - 1] + 60 if timed else None
        state, cache = model.append(items[:, known:stop], times[:, known:stop] if timed else None, asked, cache=cache)
        cut, cut_times = (torch.where(torch.arange(window) < stop, values, 0) for values in (items, times))
        expected = model.user_states(cut, cut_times if timed else None, asked)
        worst = max(worst, float(((state - expected) @ features.T).abs().max()))
    return worst


def largest_gap(backbone: str, plans: int) -> tuple[float, int]:
    """The largest gap among so many plans, and the seed of its plan."""
    return max((gap_of_plan(backbone, seed), seed) for seed in range(plans))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 where a gap is above the contract's."""
    parser = argparse.ArgumentParser(prog="tests.contracts.thousand_plans", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=1000)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    from small_models import BACKBONE_NAMES

    worst = 0.0
    for backbone in BACKBONE_NAMES:
        start = time.monotonic()
        gap, seed = largest_gap(backbone, options.plans)
        worst = max(worst, gap)
        sys.stdout.write(f"{backbone}: largest gap {gap:.2e} (plan {seed}) over {options.plans} plans, {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
