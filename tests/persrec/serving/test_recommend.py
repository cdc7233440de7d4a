"""The best items of a catalogue, held against sorting all of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from persrec.serving import recommend


@given(users=st.integers(1, 4), items=st.integers(2, 30), count=st.integers(1, 40), seed=st.integers(0, 999), leaves_out=st.booleans())
def test_the_best_are_those_of_sorting_everything(users, items, count, seed, leaves_out):
    generator = torch.Generator().manual_seed(seed)
    states = F.normalize(torch.randn(users, 5, generator=generator), dim=-1)
    features = F.normalize(torch.randn(items, 5, generator=generator), dim=-1)
    seen = torch.randint(0, items, (users, 4), generator=generator) if leaves_out else None
    ids, scores = recommend(states, features, seen=seen, count=count)
    assert ids.shape == scores.shape == (users, min(count, items - 1))
    for row in range(users):
        out = {0, *(seen[row].tolist() if seen is not None else [])}
        products = (states[row] @ features.T).tolist()
        expected = sorted((item for item in range(items) if item not in out), key=lambda item: -products[item])[:count]
        told = [item for item, score in zip(ids[row].tolist(), scores[row].tolist(), strict=True) if score > -np.inf]
        assert told == expected
        assert scores[row, : len(told)].tolist() == pytest.approx([products[item] for item in expected], abs=1e-6)


def test_where_everything_was_seen_nothing_has_a_score():
    ids, scores = recommend(torch.ones(1, 1), torch.ones(4, 1), seen=torch.tensor([[1, 2, 3]]), count=3)
    assert ids.shape == (1, 3)
    assert scores.isneginf().all()
    assert not (recommend(torch.ones(1, 1), torch.ones(5, 1), seen=torch.tensor([[1, 2, 3]]), count=4)[0] == 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: 0; expected at least 1"),
        ({"seen": torch.zeros(2, 1, dtype=torch.int64)}, r"seen: torch.int64 of shape \[2, 1\]; expected int64 \[1, items\]"),
        ({"seen": torch.tensor([[1, 4]])}, "seen: ids from 1 to 4; expected 0 to 3"),
        ({"seen": torch.tensor([[-1, 2]])}, "seen: ids from -1 to 2; expected 0 to 3"),
        ({"seen": torch.zeros(1, 1)}, r"seen: torch.float32 of shape \[1, 1\]; expected int64 \[1, items\]"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        recommend(torch.ones(1, 1), torch.ones(4, 1), **options)
