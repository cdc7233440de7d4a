"""Small models of every backbone and compression, and small users for them."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import strategies as st

from persrec import names
from persrec.backbones import BackboneSettings, build_backbone
from persrec.compression.base import Compression
from persrec.compression.category import Category
from persrec.compression.experts import Experts
from persrec.compression.full import Full
from persrec.compression.memory import Memory
from persrec.compression.pooling import Pooling
from persrec.compression.random import Random
from persrec.compression.recent import Recent
from persrec.compression.retrieval import Retrieval
from persrec.compression.strided import Strided
from persrec.data.interactions import InteractionLog
from persrec.data.splits import LeaveOneOut, leave_one_out
from persrec.items import ItemSettings, build_items
from persrec.layout import Segment, SegmentLayout
from persrec.recommender import SequentialRecommender
from persrec.training import Recipe

ITEMS = 24  # ids 0 to 23
WIDTH = 8
TOLERANCE = {"rtol": 0, "atol": 1e-5}  # the contract's, on cosines in float32

BACKBONE_NAMES = tuple(names.backbones())
CATEGORIES = np.where(np.arange(ITEMS) % 7 == 0, 0, np.arange(ITEMS) % 5)  # of items without one too, the padding item among them
TEXTS = ("", *(f"{'aeiou'[n % 5]}{'lmnr'[n % 4]} {'of' * (n % 3)} x{n}" for n in range(1, ITEMS)))


def experts(plan: list[tuple[int, int]], *, window: int, hide_empty_experts: bool = True) -> Experts:
    return Experts(layout=SegmentLayout.from_plan(plan, window=window, hide_empty_experts=hide_empty_experts), width=WIDTH)


def elastic(*, use: int) -> Experts:
    """Two segments that reserve three experts each."""
    compression = Experts(layout=SegmentLayout.equal(history=9, recent=4, segments=2, tokens=6), width=WIDTH)
    compression.use(use)
    return compression


def category(**sizes: int) -> Category:
    return Category(categories=CATEGORIES, **sizes)


# what every backbone is put together with; a layout of each kind that there is
CASES: dict[str, Callable[[], Compression]] = {
    "full": lambda: Full(history=9, recent=4),
    "full in 2 segments": lambda: Full(history=9, recent=4, segments=2),
    "recent": lambda: Recent(recent=5),
    "no expert": lambda: experts([(9, 0)], window=13),
    "1 expert": lambda: experts([(9, 1)], window=13),
    "3 segments": lambda: experts([(3, 2), (6, 2), (9, 2)], window=13),
    "unequal plan": lambda: experts([(2, 3), (3, 1), (9, 2)], window=13),
    "3 alike segments": lambda: experts([(5, 1), (10, 1), (15, 1)], window=19),
    "a segment without experts": lambda: experts([(3, 2), (6, 0), (9, 1)], window=13),
    "shown empty experts": lambda: experts([(4, 2), (9, 2)], window=13, hide_empty_experts=False),
    "elastic": lambda: elastic(use=4),
    "pooling": lambda: Pooling(history=9, recent=4, tokens=3),
    "pooling of few": lambda: Pooling(history=2, recent=4, tokens=3),
    "category": lambda: category(history=9, recent=4, tokens=3),
    "more summaries than categories": lambda: category(history=9, recent=4, tokens=7),
    "retrieval": lambda: Retrieval(history=9, recent=4, tokens=3),
    "retrieval by all": lambda: Retrieval(history=9, recent=1, tokens=3),
    "memory": lambda: Memory(history=9, recent=4, segments=1, tokens=2, width=WIDTH),
    "memory of 3 segments": lambda: Memory(history=9, recent=4, segments=3, tokens=2, width=WIDTH),
    "strided": lambda: Strided(history=9, recent=4, tokens=3),
    "strided of few": lambda: Strided(history=2, recent=4, tokens=3),
    "random": lambda: Random(history=9, recent=4, tokens=3),
}
WITH_HISTORY = tuple(name for name in CASES if name != "recent")
CACHED = tuple(name for name in WITH_HISTORY if not name.startswith("retrieval"))  # what something can be kept of
# compressions that leave some of the history's items out
PARTIAL = ("category", "retrieval", "retrieval by all", "strided", "random")


@st.composite
def _expert_layouts(draw: st.DrawFn) -> Experts:
    segments = []
    for items, count in draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=3)):
        reserved = draw(st.none() | st.integers(count, count + 2))
        segments.append(Segment(items=items, experts=count, expert_slots=reserved))
    if draw(st.booleans()):
        segments[1:] = segments[:1] * (len(segments) - 1)  # alike, so that they may run side by side
    layout = SegmentLayout(segments=tuple(segments), recent=draw(st.integers(1, 5)), hide_empty_experts=draw(st.booleans()))
    return Experts(layout=layout, width=WIDTH)


@st.composite
def _full_layouts(draw: st.DrawFn) -> Full:
    segments = draw(st.integers(1, 3))
    return Full(history=draw(st.integers(segments, 9)), recent=draw(st.integers(1, 5)), segments=segments)


@st.composite
def _memory_layouts(draw: st.DrawFn) -> Memory:
    segments = draw(st.integers(1, 3))
    sizes = {"history": draw(st.integers(segments, 9)), "recent": draw(st.integers(1, 5)), "tokens": draw(st.integers(1, 3))}
    return Memory(segments=segments, width=WIDTH, **sizes)


_sizes = {"history": st.integers(1, 9), "recent": st.integers(1, 5), "tokens": st.integers(1, 4)}

# by the names of compressions: plans of any sizes
FAMILIES: dict[str, st.SearchStrategy[Compression]] = {
    "full": _full_layouts(),
    "recent": st.builds(Recent, recent=st.integers(1, 6)),
    "experts": _expert_layouts(),
    "pooling": st.builds(Pooling, **_sizes),
    "category": st.builds(category, **_sizes),
    "retrieval": st.builds(Retrieval, **_sizes),
    "memory": _memory_layouts(),
    "strided": st.builds(Strided, **_sizes),
    "random": st.builds(Random, **_sizes),
}
CACHED_FAMILIES = tuple(name for name in FAMILIES if name not in ("recent", "retrieval"))


def build(
    backbone: str,
    compression: Compression,
    *,
    seed: int = 0,
    layers: int = 2,
    heads: int = 2,
    dropout: float = 0.0,
    lively: bool = True,
) -> SequentialRecommender:
    """A model with weights of trained-like size: fresh ones are zero where they would let a wrong path pass unseen."""
    torch.manual_seed(seed)
    settings = ItemSettings(count=ITEMS, width=WIDTH, layers=1, heads=2, texts=TEXTS)
    sizes = BackboneSettings(width=WIDTH, layers=layers, heads=heads, length=compression.layout.length, dropout=dropout)
    model = SequentialRecommender(
        items=build_items(backbone, settings), backbone=build_backbone(backbone, sizes), compression=compression
    ).eval()
    if lively:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(std=weight.shape[-1] ** -0.5)
                else:
                    weight.normal_(std=0.3).add_(float(name.endswith(".weight")))  # a norm's
    return model


def random_features(*, seed: int = 0) -> torch.Tensor:
    """Raw vectors ``[V, D]``, to stand for the catalogue."""
    return torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(seed))


def random_windows(
    layout: SegmentLayout, *, seed: int = 0, holes: bool = True, gaps: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items and times of four users' windows, and the times of their requests.

    With ``holes`` the second user is padded on the left, the third anywhere, and the fourth has a few recent items alone;
    some times are unknown. Without ``gaps`` the third's items stand together at the end of every segment, as few as none.
    """
    random = np.random.default_rng(seed)
    items = random.integers(1, ITEMS, (4, layout.window))
    times = 1_600_000_000 + np.cumsum(random.integers(1, 10 ** random.integers(1, 7, items.shape)), axis=1)
    query_time = times[:, -1] + random.integers(0, 100_000, 4)
    if holes:
        items[1, : random.integers(0, layout.history + 1)] = 0
        items[2] *= random.random(layout.window) > 0.4
        if not gaps:
            for start, stop in itertools.pairwise((0, *layout.offsets, layout.window)):
                items[2, start:stop] = np.sort(items[2, start:stop])
        items[3, : layout.history + random.integers(0, layout.recent)] = 0
        times[random.random(items.shape) < 0.1] = 0
        times[items == 0] = 0
    return torch.from_numpy(items), torch.from_numpy(times), torch.from_numpy(query_time)


def small_split(*, users: int = 12, shortest: int = 4, longest: int = 20, seed: int = 0) -> LeaveOneOut:
    """Users who walk through the catalogue in steps of one, from an item and with a pace of their own."""
    random = np.random.default_rng(seed)
    lengths = random.integers(shortest, longest + 1, users)
    starts = np.repeat(random.integers(0, ITEMS, users), lengths)
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    log = InteractionLog(
        name="walks",
        users=np.repeat(np.arange(users), lengths),
        items=(starts + places) % (ITEMS - 1) + 1,
        times=1000 + 60 * places * np.repeat(random.integers(1, 50, users), lengths),
        num_users=users,
        num_items=ITEMS,
        exclude_seen=False,
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    return leave_one_out(log)


def small_recipe(**changes: object) -> Recipe:
    settings = {
        "learning_rate": 1e-2,
        "warmup_steps": 3,
        "decays": False,
        "weight_decay": 0.0,
        "temperature": 0.2,
        "negatives": 16,
        "epochs": 1,
        "patience": 1,
        "targets_per_step": 52,
        "time_bias": True,
        "seed": 1,
    }
    return Recipe(**(settings | changes))
