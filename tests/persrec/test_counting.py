"""The counting output against its counts written out, one item at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from persrec.counting import HALF_LIVES, SCALE, CountingOutput
from persrec.names import COUNTS

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 4


def counting(counted="all", *, seed=0):
    torch.manual_seed(seed)
    output = CountingOutput(width=WIDTH, counted=counted)
    with torch.no_grad():
        for weight in output.parameters():
            weight.normal_()
    return output


def drawn(seed, *shape, items=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, items, shape, generator=generator), normalize(torch.randn(*shape, WIDTH, generator=generator), dim=-1)


def written_out(output, state, items):
    """What is added to each item of one user, from the definition."""
    real = [item for item in items if item]
    weights = output.weights(state).tolist()
    added = {}
    for item in set(real):
        counts = [sum(2 ** (-(len(real) - 1 - k) / h) for k, one in enumerate(real) if one == item) for h in HALF_LIVES]
        added[item] = sum(weight * math.log1p(SCALE * count) / math.log1p(SCALE) for weight, count in zip(weights, counts, strict=True))
    return added


@torch.no_grad()
@given(seed=st.integers(0, 999), users=st.integers(1, 3), width=st.integers(1, 9))
def test_what_is_added_is_the_counts_by_their_weights(seed, users, width):
    output = counting()
    items, states = drawn(seed, users, width)
    ids, added = output(states[:, 0], items)
    for row in range(users):
        found = {int(item): float(value) for item, value in zip(ids[row], added[row], strict=True) if item}
        assert found == pytest.approx(written_out(output, states[row, 0], items[row].tolist()), abs=1e-5)
        assert torch.equal(added[row][ids[row] == 0], torch.zeros(int((ids[row] == 0).sum())))  # nothing is added to padding
        assert len(set(ids[row].tolist()) - {0}) == int((ids[row] != 0).sum())  # each item once


@torch.no_grad()
@pytest.mark.parametrize("counted", ["recent", "all"])
@given(seed=st.integers(0, 999), edge=st.integers(0, 9))
def test_in_training_every_position_adds_what_a_request_there_would(counted, seed, edge):
    """Of the history and its own segment, or of its own segment alone; never of an item behind it."""
    output = counting(counted)
    items, states = drawn(seed, 2, 9)
    columns, segments = torch.tensor([0, 3, 4, 8]), (torch.arange(9) >= edge).long()
    counts, added = output.at_positions(states[:, columns], items, columns, segments)
    for place, column in enumerate(columns.tolist()):
        first = 0 if counted == "all" else int((segments == segments[column]).nonzero()[0])
        ids, expected = output(states[:, column], items[:, first : column + 1])
        for row in range(2):
            stands = counts[row, place]
            found = dict(zip(items[row][stands].tolist(), added[row, place][stands].tolist(), strict=True))
            assert len(found) == int(stands.sum())
            assert found == pytest.approx({int(i): float(a) for i, a in zip(ids[row], expected[row], strict=True) if i}, abs=1e-5)


@torch.no_grad()
def test_padding_anywhere_changes_nothing():
    output = counting()
    _, states = drawn(0, 1, 1)
    ids, added = output(states[:, 0], torch.tensor([[3, 1, 3, 2]]))
    with_holes, added_with_holes = output(states[:, 0], torch.tensor([[0, 3, 0, 0, 1, 3, 2, 0]]))
    found, expected = (
        {int(i): round(float(a), 5) for i, a in zip(*pair, strict=True) if i}
        for pair in ((with_holes[0], added_with_holes[0]), (ids[0], added[0]))
    )
    assert found == expected


def test_an_untrained_output_adds_nothing():
    items, states = drawn(0, 2, 5)
    _, added = CountingOutput(width=WIDTH, counted="all")(states[:, 0], items)
    assert not bool(added.any())


@pytest.mark.parametrize("counted", ["none", "some"])
def test_what_is_counted_is_recent_items_or_all(counted):
    with pytest.raises(ValueError, match=f"counted: '{counted}'; expected 'recent' or 'all'"):
        CountingOutput(width=WIDTH, counted=counted)
    assert COUNTS == ("none", "recent", "all")
