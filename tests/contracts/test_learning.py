"""Every backbone with every compression learns, repeats bit for bit, and comes back from disk."""

import pytest
import torch
from small_models import BACKBONE_NAMES, CASES, ITEMS, build, elastic, random_windows, small_recipe, small_split

from persrec.checkpoints import load_weights, save_checkpoint
from persrec.compression.experts import Experts
from persrec.data.windows import WindowShape, build_windows
from persrec.layout import SegmentLayout
from persrec.losses import sampled_softmax
from persrec.training import Trainer

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.parametrize("backbone", BACKBONE_NAMES)]


def training_batch(model, data):
    shape = WindowShape(segments=tuple(segment.items for segment in model.layout.segments), recent=model.layout.recent)
    return build_windows(data.sequences, data.test.users, data.train_ends[data.test.users] - 1, shape, trim=True)


def full_softmax_loss(model, batch):
    """The loss with the whole catalogue as negatives, so that nothing is drawn."""
    items, times, targets, query_times = (torch.from_numpy(p) for p in (batch.items, batch.times, batch.targets, batch.query_times))
    hidden, columns = model.hidden_states(items, times, query_times)
    targets = targets[:, columns]
    ids, everything = targets[targets > 0], torch.arange(1, ITEMS)
    return sampled_softmax(hidden[targets > 0], model.items.lookup(ids), model.items.lookup(everything), ids, everything, temperature=0.2)


@pytest.mark.parametrize(("case", "lively"), [*((case, True) for case in CASES), ("3 segments", False)])
def test_a_small_step_down_the_gradient_lowers_the_loss(backbone, case, lively):
    model = build(backbone, CASES[case](), lively=lively)
    batch = training_batch(model, small_split(shortest=6))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    before = full_softmax_loss(model, batch)
    gradients = torch.autograd.grad(before, weights, allow_unused=True)
    slope = sum(gradient.square().sum() for gradient in gradients if gradient is not None)
    step = 1e-3 / slope
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight -= step * gradient
        after = full_softmax_loss(model, batch)
    # to first order the loss falls by step * slope
    assert after < before
    assert float(before.detach() - after) == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize("case", CASES)
def test_every_weight_has_a_part_in_the_loss(backbone, case):
    model = build(backbone, CASES[case]())
    batch = training_batch(model, small_split(shortest=20, longest=30))
    full_softmax_loss(model, batch).backward()
    unused = {name for name, weight in model.named_parameters() if weight.numel() and (weight.grad is None or not weight.grad.any())}
    assert not unused
    if case == "elastic":  # uses two of each segment's three tokens
        assert all((weight.grad[:2] != 0).any(1).all() and (weight.grad[2] == 0).all() for weight in model.compression.tokens)


@pytest.mark.parametrize("case", ["3 segments", "pooling"])
def test_epochs_of_the_trainer_lower_the_loss(backbone, case):
    model = build(backbone, CASES[case](), lively=False)
    recipe = small_recipe(epochs=3, patience=3, targets_per_step=26)
    result = Trainer(model=model, data=small_split(users=8, shortest=8), recipe=recipe, validate=lambda: 1.0).run()
    losses = [report.loss for report in result.curve]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("case", ["full", "3 segments", "elastic"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(backbone, case):
    def trained(seed):
        torch.manual_seed(0)  # of the expert tokens
        model = build(backbone, CASES[case](), dropout=0.2, lively=False)
        counts = (0, 2, 4, 6) if case == "elastic" else ()
        recipe = small_recipe(seed=seed, token_counts=counts)
        Trainer(model=model, data=small_split(users=8), recipe=recipe, validate=lambda: 1.0).run()
        return model.state_dict()

    first, again, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("case", ["recent", "no expert", "elastic", "pooling"])
@torch.no_grad()
def test_a_saved_model_comes_back_with_the_same_scores(backbone, case, tmp_path):
    model = build(backbone, CASES[case]())
    save_checkpoint(tmp_path / "model", model, {"epochs": 3})
    again = build(backbone, CASES[case](), seed=1)
    inputs = random_windows(model.layout)
    assert not torch.equal(again.score(*inputs), model.score(*inputs))
    load_weights(tmp_path / "model", again)
    assert torch.equal(again.score(*inputs), model.score(*inputs))


@pytest.mark.parametrize("tokens", [0, 2, 4, 6])
@torch.no_grad()
def test_an_elastic_model_is_the_model_of_the_count_it_uses(backbone, tokens):
    model = build(backbone, elastic(use=6))
    model.compression.use(tokens)
    layout = SegmentLayout.equal(history=9, recent=4, segments=2, tokens=tokens, expert_slots=6)
    separate = build(backbone, Experts(layout=layout, width=model.backbone.width), seed=1)
    separate.load_state_dict(model.state_dict())
    inputs = random_windows(layout)
    assert torch.equal(model.score(*inputs), separate.score(*inputs))
    items, times, query_time = inputs
    cache = separate.compress(items[:, :9], times[:, :9])
    assert torch.equal(
        model.score(items[:, 9:], times[:, 9:], query_time, cache=cache),
        separate.score(items[:, 9:], times[:, 9:], query_time, cache=cache),
    )


@torch.no_grad()
def test_using_the_count_in_use_changes_nothing(backbone):
    model = build(backbone, Experts(layout=SegmentLayout.equal(history=9, recent=4, segments=1, tokens=2), width=8))
    items, _, _ = random_windows(model.layout)
    cache, expected = model.compress(items[:, :9]), model.score(items)
    model.compression.use(2)
    assert torch.equal(model.score(items), expected)
    torch.testing.assert_close(model.score(items[:, 9:], cache=cache), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [3, 8])
def test_an_elastic_model_refuses_a_count_it_cannot_take(backbone, tokens):
    model = build(backbone, elastic(use=2))
    with pytest.raises(ValueError, match=f"tokens: {tokens} on 2 segments; expected the same number, up to 3, on each"):
        model.compression.use(tokens)
    assert model.layout.tokens == 2
