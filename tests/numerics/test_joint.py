"""The joint pass against one that is written here anew: dense N x N, layer by layer, from METHOD and the model's weights.

It shares no code with `persrec` but the layout's visibility, which has a test of its own.
"""

import math

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from small_models import CASES, FAMILIES, PART_OF, TOLERANCE, WIDTH, build, random_windows

from persrec.compression.random import draw

pytestmark = pytest.mark.usefixtures("one_thread")

# compressions that this file writes anew; a memory has a test of its own
READ_HERE = ("full", "recent", "experts", "pooling", "category", "retrieval", "strided", "random")


# What stands at each joint position of one user


def positions_of(layout):
    """(segment, window columns it stands for, number of the expert or None, slot) of every computed position.

    A summary's columns depend on the user: they are given by `summarised`.
    """
    listed, slot, column = [], 0, 0
    for index, segment in enumerate(layout.segments):
        if segment.summaries is None:
            listed += [(index, [column + place], None, slot + place) for place in range(segment.items)]
        else:
            listed += [(index, ("summary", place), None, slot + place) for place in range(segment.summaries)]
        slot += segment.items if segment.summaries is None else segment.summaries
        column += segment.items
        listed += [(index, [], number, slot + number) for number in range(segment.experts)]
        slot += segment.experts if segment.expert_slots is None else segment.expert_slots
    return listed + [(len(layout.segments), [column + place], None, slot + place) for place in range(layout.recent)]


class TieError(Exception):
    """Two items are as near as each other, as the two that are asked with are, and the last bit decides which is taken."""


def summarised(columns, chunks):
    """Chunks of nearly equal size of the columns that hold an item, the last chunk filled first where they are few."""
    if len(columns) <= chunks:
        return [[]] * (chunks - len(columns)) + [[column] for column in columns]
    edges = [len(columns) - math.ceil(back * len(columns) / chunks) for back in range(chunks, -1, -1)]
    return [columns[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]


def summaries_of(model, own, items):
    """Window columns that each summary of a history stands for, from the columns ``own`` that hold an item."""
    compression, count = model.compression, model.layout.segments[0].summaries
    kind = type(compression).__name__.lower()
    if kind == "pooling":
        return summarised(own, count)
    if kind == "strided":
        return [chunk[-1:] for chunk in summarised(own, count)]
    if kind == "category":
        of = {column: int(compression.categories[items[column]]) for column in own}
        kept = sorted(set(of.values()), key=lambda one: [column for column in own if of[column] == one][-1])
        most = sorted(kept, key=lambda one: list(of.values()).count(one))[-count:]  # stable: the later of two alike is the last
        groups = [[column for column in own if of[column] == one] for one in kept if one in most]
    elif kind == "random":
        back = torch.arange(len(own) - 1, -1, -1)
        hashes = dict(zip(own, draw(torch.tensor([items[c] for c in own], dtype=torch.int64), back).tolist(), strict=True))
        groups = [[column] for column in sorted(sorted(own, key=hashes.get)[-count:])]
    else:
        layout, unit = model.layout, torch.nn.functional.normalize(model.items.embedding.weight.double(), dim=-1)
        asked = [items[column] for column in range(layout.history, layout.history + layout.query_items) if items[column]]
        question = sum((unit[item] for item in asked), torch.zeros(WIDTH).double())
        near = {column: float(unit[items[column]] @ question) for column in own}
        ranked = sorted(own, key=lambda column: (near[column], column))
        left, taken = ranked[:-count], ranked[-count:]
        if any(items[one] != items[other] and near[other] - near[one] < 1e-6 for one in left for other in taken):
            raise TieError
        groups = [[column] for column in sorted(taken)]
    return [[]] * (count - len(groups)) + groups


class User:
    """One user's joint sequence: vectors, what is not padding, slots, and the times of keys and queries."""

    def __init__(self, model, items, times, query_time):
        layout = model.layout
        edges = [0, *layout.offsets, layout.window]
        held = [[c for c in range(start, stop) if items[c] != 0] for start, stop in zip(edges, edges[1:], strict=False)]
        self.vectors, self.valid, self.slots, self.columns = [], [], [], []
        self.key_times, self.query_times = [], []
        for segment, columns, expert, slot in positions_of(layout):
            own = held[segment]
            self.slots.append(slot)
            if expert is not None:
                # the token that all users share; it takes the time of its segment's last item, and hides with an empty segment
                time, token = times[own[-1]] if own else 0, model.compression.tokens[segment][expert]
                if getattr(model.compression, "_pooled", False):  # and the mean of its share of the segment's items
                    share = summarised(own, layout.segments[segment].experts)[expert]
                    token = token + sum((model.items.embedding.weight[items[c]] for c in share), torch.zeros(WIDTH)) / max(1, len(share))
                self.add(token, bool(own) or not layout.hide_empty_experts, time, time, None)
            elif columns[0] == "summary":
                meant = summaries_of(model, own, items)[columns[1]]
                mean = sum((model.items.embedding.weight[items[c]] for c in meant), torch.zeros(WIDTH)) / max(1, len(meant))
                time = max((times[c] for c in meant), default=0)
                self.add(mean, bool(meant), time, time, None)
            else:
                (column,) = columns
                self.add(
                    model.items.embedding.weight[items[column]],
                    column in own,
                    times[column],
                    self.query_of(column, own, times, query_time if segment == len(layout.segments) else None),
                    column,
                )

    def add(self, vector, valid, key_time, query_time, column):
        self.vectors.append(vector)
        self.valid.append(valid)
        self.key_times.append(key_time)
        self.query_times.append(query_time)
        self.columns.append(column)

    @staticmethod
    def query_of(column, own, times, request):
        """The next item's time within the segment; at its last item the request's, if given and the segment is the recent one."""
        if column not in own:
            return 0
        if column != own[-1]:
            return times[own[own.index(column) + 1]]
        return times[column] if request is None else request


def bucket(query, key):
    return min(127, int(math.log(max(1, abs(query - key))) / 0.301))


def layer_norm(x, eps, weight=None, bias=None):
    centred = x - x.mean(-1, keepdim=True)
    out = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return out if weight is None else out * weight + bias


def silu(x):
    return x / (1 + torch.exp(-x))


def heads_of(x, heads):
    return x.view(len(x), heads, -1).transpose(0, 1)  # [H, N, d]


def naive_hstu(model, user, seen, *, timed):
    backbone, config = model.backbone, model.backbone.config
    slots = torch.tensor(user.slots)
    x = torch.stack(user.vectors) + backbone.positions.weight[slots]
    for layer in backbone.layers:
        u, v, q, k = silu(layer_norm(x, config.norm_eps) @ layer.uvqk).split(config.width, dim=-1)
        bias = layer.bias.distance[(slots[:, None] - slots[None, :]).clamp(min=0)].clone()
        for row, query in enumerate(user.query_times if timed else []):
            for column, key in enumerate(user.key_times):
                if query and key:
                    bias[row, column] += layer.bias.interval[bucket(query, key)]
        scores = heads_of(q, config.heads) @ heads_of(k, config.heads).transpose(-1, -2) + bias
        weights = torch.where(seen, silu(scores), 0.0) / model.layout.length
        attended = (weights @ heads_of(v, config.heads)).transpose(0, 1).reshape(len(x), -1)
        x = x + (u * layer_norm(attended, config.norm_eps)) @ layer.output.weight.T + layer.output.bias
    return x


def naive_sasrec(model, user, seen, *, timed):
    backbone, config = model.backbone, model.backbone.config

    def normed(x, norm):
        return layer_norm(x, config.norm_eps, norm.weight, norm.bias)

    def mapped(x, linear):
        return x @ linear.weight.T + linear.bias

    x = normed(torch.stack(user.vectors) + backbone.positions.weight[torch.tensor(user.slots)], backbone.input_norm)
    for layer in backbone.layers:
        q, k, v = (heads_of(mapped(x, part), config.heads) for part in (layer.query, layer.key, layer.value))
        odds = torch.where(seen, torch.exp(q @ k.transpose(-1, -2) / math.sqrt(config.width / config.heads)), 0.0)
        attended = (odds / odds.sum(-1, keepdim=True).clamp(min=1e-30)) @ v
        x = normed(x + mapped(attended.transpose(0, 1).reshape(len(x), -1), layer.output), layer.attention_norm)
        inner = mapped(x, layer.expand)
        x = normed(x + mapped(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2, layer.shrink), layer.feed_forward_norm)
    return x


NAIVE = {"hstu": naive_hstu, "sasrec": naive_sasrec}


def naive_states(model, name, items, times, query_time):
    """Hidden states of one user's items by window column."""
    given_times = [0] * len(items) if times is None else times.tolist()
    user = User(model, items.tolist(), given_times, None if query_time is None else int(query_time))
    seen = torch.from_numpy(model.layout.visibility()) & torch.tensor(user.valid)[None, :]
    states = NAIVE[name](model, user, seen, timed=times is not None)
    return {column: states[place] for place, column in enumerate(user.columns) if column is not None}


@torch.no_grad()
def assert_as_naive(model, name, items, times, query_time):
    states, columns = model.hidden_states(items, times, query_time)
    scores = model.score(items, times, query_time)
    unit = model.items.embedding.weight / model.items.embedding.weight.norm(dim=-1, keepdim=True)
    for row in range(len(items)):
        naive = naive_states(
            model, name, items[row], None if times is None else times[row], None if query_time is None else query_time[row]
        )
        place_of = {column: place for place, column in enumerate(columns.tolist())}
        held = [column for column in naive if items[row, column] != 0]
        asked = model.layout.history + model.layout.query_items - 1  # in front of it, a choice by recent items is not known
        assert {column for column in held if column >= asked} <= set(place_of)
        for column in [column for column in held if column in place_of]:
            found, expected = states[row, place_of[column]], naive[column]
            torch.testing.assert_close(found / found.norm(), expected / expected.norm(), **TOLERANCE)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if held:  # or there is nothing to answer from
            last = naive[held[-1]]
            torch.testing.assert_close(scores[row], unit @ (last / last.norm()), **TOLERANCE)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("family", READ_HERE)
@settings(max_examples=12)
@given(data=st.data())
def test_the_joint_pass_is_the_naive_one(name, family, data):
    compression = data.draw(FAMILIES[family])
    seed = data.draw(st.integers(0, 9999))
    timed = data.draw(st.sampled_from(["no times", "times", "times and a request"]))
    model = build(name, compression, seed=seed)
    items, times, query_time = random_windows(compression.layout, seed=seed, gaps=timed == "no times")
    try:
        if timed == "no times":
            assert_as_naive(model, name, items, None, None)
        else:
            assert_as_naive(model, name, items, times, query_time if timed == "times and a request" else None)
    except TieError:
        reject()


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("case", [case for case in CASES if PART_OF[case].name in READ_HERE])
def test_each_kind_of_plan_is_the_naive_one(name, case):
    model = build(name, CASES[case]())
    assert_as_naive(model, name, *random_windows(model.layout, holes=False))


class Piece:
    """One segment of one user under a memory: what was handed on, the items, and the tokens that are written anew."""

    def __init__(self, model, items, times, query_time, *, segment, handed):
        layout = model.layout
        edges = [0, *layout.offsets, layout.window]
        columns = range(edges[segment], edges[segment + 1])
        last, count = segment == len(layout.segments), len(model.compression.tokens)
        self.own = [column for column in columns if items[column] != 0]
        time = times[self.own[-1]] if self.own else 0
        vectors, self.time = handed or ([torch.zeros(WIDTH)] * (count if segment else 0), 0)
        first = layout.starts[segment] - len(vectors)
        written = [] if last else list(model.compression.tokens)
        self.vectors = [*vectors, *(model.items.embedding.weight[items[column]] for column in columns), *written]
        self.valid = [handed is not None] * len(vectors) + [column in self.own for column in columns] + [bool(self.own)] * len(written)
        self.slots = list(range(first, first + len(self.vectors)))
        self.key_times = [self.time] * len(vectors) + [times[column] for column in columns] + [time] * len(written)
        asked = [User.query_of(column, self.own, times, query_time if last else None) for column in columns]
        self.query_times = [self.time] * len(vectors) + asked + [time] * len(written)
        self.columns = [None] * len(vectors) + list(columns) + [None] * len(written)
        self.end = time


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("case", ["memory", "memory of 3 segments"])
@torch.no_grad()
def test_a_memory_is_the_outputs_of_its_tokens_fed_to_the_next_segment(name, case):
    model = build(name, CASES[case]())
    count = len(model.compression.tokens)
    items, times, query_time = random_windows(model.layout, seed=1, gaps=False)
    states, columns = model.hidden_states(items, times, query_time)
    place_of = {column: place for place, column in enumerate(columns.tolist())}
    for row in range(len(items)):
        handed = None
        for segment in range(len(model.layout.segments) + 1):
            piece = Piece(model, items[row].tolist(), times[row].tolist(), int(query_time[row]), segment=segment, handed=handed)
            seen = torch.ones(len(piece.slots), len(piece.slots), dtype=torch.bool).tril() & torch.tensor(piece.valid)[None, :]
            naive = NAIVE[name](model, piece, seen, timed=True)
            for column in piece.own:
                found, expected = states[row, place_of[column]], naive[piece.columns.index(column)]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            if piece.own:
                handed = (list(naive[-count:]), piece.end)


@pytest.mark.parametrize("asked", [False, True], ids=["no request", "a request"])
def test_an_item_in_front_of_a_gap_is_told_of_the_next_item_behind_it(asked):
    model = build("hstu", CASES["1 expert"]())
    items, times, query_time = random_windows(model.layout, holes=False)
    items[:, [4, 11]], times[:, [4, 11]] = 0, 0
    assert_as_naive(model, "hstu", items, times, query_time if asked else None)


@pytest.mark.parametrize("part", ["distance", "interval"])
@torch.no_grad()
def test_the_comparison_would_notice_a_table_left_out(part):
    model = build("hstu", CASES["3 segments"]())
    items, times, query_time = random_windows(model.layout)
    before = model.score(items, times, query_time)
    for layer in model.backbone.layers:
        getattr(layer.bias, part).zero_()
    assert (model.score(items, times, query_time) - before).abs().max() > 1e-3


def test_chunks_by_hand():
    assert summarised([4, 5, 6], 3) == [[4], [5], [6]]
    assert summarised([7], 3) == [[], [], [7]]
    sizes = [[len(chunk) for chunk in summarised(list(range(count)), 3)] for count in (7, 8, 9)]
    assert sizes == [[2, 2, 3], [2, 3, 3], [3, 3, 3]]
    assert [sum(summarised(list(range(count)), 4), []) for count in range(12)] == [list(range(count)) for count in range(12)]
