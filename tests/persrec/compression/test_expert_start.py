"""What an expert token is before the first layer."""

import pytest
import torch
from small_models import WIDTH

from persrec.compression.base import ItemSlots
from persrec.compression.experts import Experts
from persrec.compression.pooling import Pooling
from persrec.layout import SegmentLayout

pytestmark = pytest.mark.usefixtures("one_thread")
LAYOUT = SegmentLayout.equal(history=6, recent=2, segments=1, tokens=4)


def slots(ids):
    generator = torch.Generator().manual_seed(0)
    return ItemSlots(ids=torch.tensor([ids]), vectors=torch.randn(1, len(ids), WIDTH, generator=generator), times=None)


@pytest.mark.parametrize("use", [0, 1, 3, 4])
@torch.no_grad()
def test_a_pooled_start_adds_to_each_token_the_mean_that_pooling_keeps(use):
    experts = Experts(layout=LAYOUT, width=WIDTH, expert_start="pooled")
    experts.use(use)
    items = slots([0, 3, 1, 4, 1, 5])
    chunk = experts.history_chunk(0, items)
    assert chunk.kept == use
    if use:
        means = Pooling(history=6, recent=2, tokens=use).history_chunk(0, items).inputs
        torch.testing.assert_close(chunk.inputs[:, 6:], experts.tokens[0][:use] + means)
    assert torch.equal(chunk.inputs[:, :6], items.vectors)


@torch.no_grad()
def test_a_learnt_start_is_the_same_for_all_users_and_an_empty_chunk_adds_nothing():
    learnt = Experts(layout=LAYOUT, width=WIDTH)
    assert torch.equal(learnt.history_chunk(0, slots([0, 3, 1, 4, 1, 5])).inputs[0, 6:], learnt.tokens[0])
    pooled = Experts(layout=LAYOUT, width=WIDTH, expert_start="pooled")
    few = pooled.history_chunk(0, slots([0, 0, 0, 0, 1, 5])).inputs[0, 6:]
    assert torch.equal(few[:2], pooled.tokens[0][:2])
    assert not torch.equal(few[2:], pooled.tokens[0][2:])


def test_another_start_is_refused():
    with pytest.raises(ValueError, match="expert_start: unknown 'mean'; known: learnt, pooled"):
        Experts(layout=LAYOUT, width=WIDTH, expert_start="mean")
