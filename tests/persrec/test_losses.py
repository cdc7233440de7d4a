import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from persrec import losses
from persrec.losses import OwnItems, sampled_softmax

pytestmark = pytest.mark.usefixtures("one_thread")


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def naive(states, positives, negatives, target_ids, negative_ids, temperature):
    """Cross-entropy of every target among itself and the negatives that are not it, one at a time."""
    losses = []
    for state, positive, target in zip(states, positives, target_ids, strict=True):
        logit = cosine(state, positive) / temperature
        others = [cosine(state, vector) / temperature for vector, item in zip(negatives, negative_ids, strict=True) if item != target]
        losses.append(math.log(math.exp(logit) + sum(math.exp(other) for other in others)) - logit)
    return sum(losses) / len(losses)


@given(n=st.integers(1, 6), M=st.integers(1, 8), seed=st.integers(0, 999), temperature=st.sampled_from([0.05, 0.2, 1.0]))
def test_the_loss_is_the_cross_entropy_written_out(n, M, seed, temperature):
    random = torch.Generator().manual_seed(seed)
    states, positives, negatives = (torch.randn(count, 3, generator=random, dtype=torch.float64) for count in (n, n, M))
    target_ids, negative_ids = (torch.randint(1, 5, (count,), generator=random) for count in (n, M))  # the same items often
    found = sampled_softmax(states, positives, negatives, target_ids, negative_ids, temperature=temperature)
    listed = (tensor.tolist() for tensor in (states, positives, negatives, target_ids, negative_ids))
    assert float(found) == pytest.approx(naive(*listed, temperature), rel=1e-9, abs=1e-12)


@given(n=st.integers(1, 5), M=st.integers(1, 4), m=st.integers(1, 4), seed=st.integers(0, 999), at_once=st.sampled_from([1, 1 << 17]))
def test_own_items_stand_beside_the_negatives(n, M, m, seed, at_once):
    """The loss and its gradients are those of all logits in one row: the target's, the negatives' and the other own items'."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()

    states, positives, negatives, scores, added = drawn(n, 3), drawn(n, 3), drawn(M, 3), drawn(n, m), drawn(n)
    target_ids, negative_ids = (torch.randint(1, 5, (count,), generator=random) for count in (n, M))
    others = torch.rand(n, m, generator=random) < 0.5
    own = OwnItems(scores=scores, others=others, added=added)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(losses.BLOCK_ELEMENTS, "cpu", at_once)
        found = sampled_softmax(states, positives, negatives, target_ids, negative_ids, temperature=0.2, own_items=own)

    unit = torch.nn.functional.normalize
    target = ((unit(states, dim=1) * unit(positives, dim=1)).sum(1) + added)[:, None] / 0.2
    of_negatives = (unit(states, dim=1) @ unit(negatives, dim=1).T / 0.2).masked_fill(target_ids[:, None] == negative_ids, -torch.inf)
    every = torch.cat([target, of_negatives, (scores / 0.2).masked_fill(~others, -torch.inf)], dim=1)
    expected = (every.logsumexp(1) - target[:, 0]).mean()
    inputs = (states, positives, negatives, scores, added)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_target_among_the_negatives_is_not_held_against_itself():
    state, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    ids = torch.tensor([7])
    own_alone = sampled_softmax(state, state, state, ids, ids, temperature=0.1)
    assert float(own_alone) == 0.0
    with_another = sampled_softmax(state, state, torch.cat([state, other]), ids, torch.tensor([7, 8]), temperature=0.5)
    assert float(with_another) == pytest.approx(math.log(1 + math.exp(-2)))  # cosines 1 and 0, divided by 0.5


def test_lengths_of_vectors_do_not_count():
    random = torch.Generator().manual_seed(0)
    states, positives, negatives = (torch.randn(4, 3, generator=random) for _ in range(3))
    ids = torch.arange(4)
    expected = sampled_softmax(states, positives, negatives, ids, ids + 10, temperature=0.2)
    scaled = sampled_softmax(3 * states, 0.1 * positives, 7 * negatives, ids, ids + 10, temperature=0.2)
    torch.testing.assert_close(scaled, expected)


def test_gradients_stay_finite_where_every_negative_is_the_target():
    states = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vectors = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ids = torch.tensor([4, 4])
    sampled_softmax(states, vectors, vectors, ids, ids, temperature=0.05).backward()
    assert (states.grad == 0).all()
    assert (vectors.grad == 0).all()


@given(n=st.integers(1, 9), M=st.integers(1, 6), block=st.sampled_from([1, 7, 1 << 17]), seed=st.integers(0, 999), more=st.booleans())
def test_blocks_give_the_loss_and_gradients_of_all_logits_at_once(n, M, block, seed, more):
    random = torch.Generator().manual_seed(seed)
    states, negatives = (torch.randn(count, 3, generator=random, dtype=torch.float64) for count in (n, M))
    own = torch.randn(n, generator=random, dtype=torch.float64)
    ids = [torch.randint(1, 5, (count,), generator=random) for count in (n, M)]
    outcomes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(losses.BLOCK_ELEMENTS, "cpu", block)
        for loss in (losses._CrossEntropy.apply, losses.naive_cross_entropy):
            leaves = [tensor.clone().requires_grad_() for tensor in (states, own, negatives, *([own.flip(0)] if more else []))]
            value = loss(*leaves[:3], *ids, leaves[3] if more else None)
            outcomes.append((value, *torch.autograd.grad(3 * value, leaves)))
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected)
