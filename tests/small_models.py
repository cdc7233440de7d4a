"""Small models of every backbone and compression, and small users for them."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from hypothesis import strategies as st

from persrec import names
from persrec.backbones import BackboneSettings, build_backbone
from persrec.backbones.hstu import HSTU
from persrec.compression import Compression, CompressionSettings, build_compression
from persrec.compression.category import Category
from persrec.compression.experts import Experts
from persrec.compression.full import Full
from persrec.compression.memory import Memory
from persrec.compression.pooling import Pooling
from persrec.compression.random import Random
from persrec.compression.recent import Recent
from persrec.compression.retrieval import Retrieval
from persrec.compression.strided import Strided
from persrec.counting import CountingOutput
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import Split, leave_one_out
from persrec.items import ItemSettings, build_items
from persrec.layout import Segment, SegmentLayout
from persrec.recommender import SequentialRecommender
from persrec.training import Recipe

ITEMS = 24  # ids 0 to 23
WIDTH = 8
TOLERANCE = {"rtol": 0, "atol": 1e-5}  # the contract's, on cosines in float32

BACKBONE_NAMES = tuple(names.backbones())
# every backbone with times; without them too where it reads them, as for the others that is the same
BACKBONES_TIMED = tuple((name, timed) for name, part in names.backbones().items() for timed in (False, True) if timed or part.reads_times)
CATEGORIES = np.where(np.arange(ITEMS) % 7 == 0, 0, np.arange(ITEMS) % 5)  # of items without one too, the padding item among them
TEXTS = ("", *(f"{'aeiou'[n % 5]}{'lmnr'[n % 4]} {'of' * (n % 3)} x{n}" for n in range(1, ITEMS)))


def experts(plan: list[tuple[int, int]], *, window: int, hide_empty_experts: bool = True) -> Experts:
    return Experts(layout=SegmentLayout.from_plan(plan, window=window, hide_empty_experts=hide_empty_experts), width=WIDTH)


def pooled_start(plan: list[tuple[int, int]], *, window: int) -> Experts:
    return Experts(layout=SegmentLayout.from_plan(plan, window=window), width=WIDTH, expert_start="pooled")


def elastic(*, use: int) -> Experts:
    """Two segments that reserve three experts each."""
    compression = Experts(layout=SegmentLayout.equal(history=9, recent=4, segments=2, tokens=6), width=WIDTH)
    compression.use(use)
    return compression


def category(**sizes: int) -> Category:
    return Category(categories=CATEGORIES, **sizes)


def by_traits(part: names.CompressionPart, *, history: int = 9, recent: int = 4, segments: int = 3, tokens: int = 3) -> Compression:
    """A small compression of any kind, with the sizes that its declaration allows.

    ``tokens`` are those of each segment where the compression spreads them over the segments.
    """
    segments = 1 if part.one_segment else segments
    if part.tokens == "none":
        tokens = 0
    elif part.spreads_tokens:
        tokens *= segments
    categories = CATEGORIES if part.needs_categories else None
    settings = CompressionSettings(history=history, recent=recent, segments=segments, tokens=tokens, width=WIDTH, categories=categories)
    return build_compression(part.name, settings)


# layouts of every kind that there is, by compression; a compression without some has one that its traits allow
_LAYOUTS: dict[str, dict[str, Callable[[], Compression]]] = {
    "full": {
        "full": lambda: Full(history=9, recent=4),
        "full in 2 segments": lambda: Full(history=9, recent=4, segments=2),
    },
    "recent": {"recent": lambda: Recent(recent=5)},
    "experts": {
        "no expert": lambda: experts([(9, 0)], window=13),
        "1 expert": lambda: experts([(9, 1)], window=13),
        "3 segments": lambda: experts([(3, 2), (6, 2), (9, 2)], window=13),
        "unequal plan": lambda: experts([(2, 3), (3, 1), (9, 2)], window=13),
        "3 alike segments": lambda: experts([(5, 1), (10, 1), (15, 1)], window=19),
        "a segment without experts": lambda: experts([(3, 2), (6, 0), (9, 1)], window=13),
        "shown empty experts": lambda: experts([(4, 2), (9, 2)], window=13, hide_empty_experts=False),
        "elastic": lambda: elastic(use=4),
        "pooled start": lambda: pooled_start([(5, 2), (9, 3)], window=13),
    },
    "pooling": {
        "pooling": lambda: Pooling(history=9, recent=4, tokens=3),
        "pooling of few": lambda: Pooling(history=2, recent=4, tokens=3),
    },
    "category": {
        "category": lambda: category(history=9, recent=4, tokens=3),
        "more summaries than categories": lambda: category(history=9, recent=4, tokens=7),
    },
    "retrieval": {
        "retrieval": lambda: Retrieval(history=9, recent=4, tokens=3),
        "retrieval by all": lambda: Retrieval(history=9, recent=1, tokens=3),
    },
    "memory": {
        "memory": lambda: Memory(history=9, recent=4, segments=1, tokens=2, width=WIDTH),
        "memory of 3 segments": lambda: Memory(history=9, recent=4, segments=3, tokens=2, width=WIDTH),
    },
    "strided": {
        "strided": lambda: Strided(history=9, recent=4, tokens=3),
        "strided of few": lambda: Strided(history=2, recent=4, tokens=3),
    },
    "random": {"random": lambda: Random(history=9, recent=4, tokens=3)},
}
_BY_HAND = tuple(case for layouts in _LAYOUTS.values() for case in layouts)
_LAYOUTS |= {name: {name: partial(by_traits, part)} for name, part in names.compressions().items() if name not in _LAYOUTS}
# what every backbone is put together with, and the declaration of each
CASES = {case: layout for layouts in _LAYOUTS.values() for case, layout in layouts.items()}
PART_OF = {case: names.compressions()[name] for name, layouts in _LAYOUTS.items() for case in layouts}
WITH_HISTORY = tuple(case for case, part in PART_OF.items() if part.needs_history)
CACHED = tuple(case for case in WITH_HISTORY if not PART_OF[case].chooses_at_request)  # what something can be kept of
# layouts that leave some of the history's items out, and those that read all of them; of others nobody says
PARTIAL = ("category", "retrieval", "retrieval by all", "strided", "random")
READ_WHOLE = tuple(case for case in _BY_HAND if case not in PARTIAL)


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
def _layouts_by_traits(draw: st.DrawFn, part: names.CompressionPart) -> Compression:
    segments, least = draw(st.integers(1, 3)), 0 if part.tokens == "any" else 1
    sizes = {"history": draw(st.integers(segments, 9)), "recent": draw(st.integers(1, 5)), "tokens": draw(st.integers(least, 4))}
    return by_traits(part, segments=segments, **sizes)


# by compression: plans of any sizes
FAMILIES: dict[str, st.SearchStrategy[Compression]] = {
    name: _expert_layouts() if name == "experts" else _layouts_by_traits(part) for name, part in names.compressions().items()
}
CACHED_FAMILIES = tuple(name for name, part in names.compressions().items() if part.needs_history and not part.chooses_at_request)


def build(
    backbone: str,
    compression: Compression,
    *,
    seed: int = 0,
    layers: int = 2,
    heads: int = 2,
    dropout: float = 0.0,
    lively: bool = True,
    counts: str = "none",
) -> SequentialRecommender:
    """A model with weights of trained-like size: fresh ones are zero where they would let a wrong path pass unseen."""
    torch.manual_seed(seed)
    settings = ItemSettings(count=ITEMS, width=WIDTH, layers=1, heads=2, texts=TEXTS)
    sizes = BackboneSettings(width=WIDTH, layers=layers, heads=heads, length=compression.layout.length, dropout=dropout)
    counting = None if counts == "none" else CountingOutput(width=WIDTH, counted=counts)
    parts = {"items": build_items(backbone, settings), "backbone": build_backbone(backbone, sizes), "compression": compression}
    model = SequentialRecommender(**parts, counting=counting).eval()
    if lively:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(std=weight.shape[-1] ** -0.5)
                else:
                    weight.normal_(std=0.3).add_(float(name.endswith(".weight")))  # a norm's
    return model


def with_hstu(model: SequentialRecommender, **changes: object) -> SequentialRecommender:
    """A model with its HSTU set otherwise, by the same weights as far as it still has them."""
    config = dataclasses.replace(model.backbone.config, **changes)
    backbone = HSTU(config)
    backbone.load_state_dict(model.backbone.state_dict(), strict=config.relative_bias)
    backbone.kernel = model.backbone.kernel
    model.backbone = backbone.eval()
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


def small_split(*, users: int = 12, shortest: int = 4, longest: int = 20, seed: int = 0) -> Split:
    """Users who walk through the catalogue in steps of one, from an item and with a pace of their own."""
    random = np.random.default_rng(seed)
    lengths = random.integers(shortest, longest + 1, users)
    starts = np.repeat(random.integers(0, ITEMS, users), lengths)
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    log = InteractionLog(
        name="walks",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=(starts + places) % (ITEMS - 1) + 1,
        times=1000 + 60 * places * np.repeat(random.integers(1, 50, users), lengths),
        num_items=ITEMS,
        protocol=Protocol(),
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


def full_users(*, users, length):
    """Users of ``length`` training items each, all of the same length."""
    return small_split(users=users, shortest=length + 2, longest=length + 2)
