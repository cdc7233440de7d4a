"""The future changes nothing, and an old item reaches a recent position only through the experts of its segment."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    BACKBONE_NAMES,
    CACHED,
    CASES,
    FAMILIES,
    ITEMS,
    PARTIAL,
    READ_WHOLE,
    TOLERANCE,
    WITH_HISTORY,
    build,
    elastic,
    experts,
    random_features,
    random_windows,
)

from benchmarks.noise import leak
from persrec import names
from persrec.schedule import joint_runs

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.parametrize("backbone", BACKBONE_NAMES)]


@settings(max_examples=25)
@given(data=st.data(), compression=st.one_of(*FAMILIES.values()))
@torch.no_grad()
def test_later_items_and_times_change_no_earlier_state(backbone, compression, data):
    layout = compression.layout
    seed = data.draw(st.integers(0, 9999))
    model = build(backbone, compression, seed=seed)
    items, times, query_time = random_windows(layout, seed=seed, holes=data.draw(st.booleans()))
    states, columns = model.hidden_states(items, times, query_time)
    changed_from = data.draw(st.integers(1, layout.window - 1)) if layout.window > 1 else 1
    other_items, other_times = items.clone(), times.clone()
    later = other_items[:, changed_from:]
    other_items[:, changed_from:] = torch.where(later == 0, 0, later % (ITEMS - 1) + 1)
    # a position is told when the next item comes, as in the paper, and nothing else of it
    comes_next = ((items != 0) & (torch.arange(layout.window) >= changed_from)).int().argmax(1)
    other_times += (times > 0) * (torch.arange(layout.window) > comes_next[:, None].clamp(min=changed_from)) * 12_345
    found, _ = model.hidden_states(other_items, other_times, query_time + 777)
    # nor is the last item told of the request, when it comes before the change
    last = (torch.arange(1, layout.window + 1) * (items != 0)).argmax(1)
    for row in range(len(items)):
        earlier = (columns < changed_from) & (columns != last[row]) & (items[row, columns] != 0)  # a padded column predicts nothing
        torch.testing.assert_close(found[row, earlier], states[row, earlier], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_recent_items_that_are_drawn_anew_change_no_state_before_them(backbone, case):
    # what is taken of a history may follow the recent items; every one is changed here, so that another choice would show
    model = build(backbone, CASES[case]())
    layout = model.layout
    for seed in range(3):
        items, _, _ = random_windows(layout, seed=seed, holes=False)
        other, _, _ = random_windows(layout, seed=100 + seed, holes=False)
        states, columns = model.hidden_states(items)
        assert set(columns.tolist()) == set(layout.predicting_columns)
        for changed_from in range(layout.history + 1, layout.window):
            mixed = torch.cat([items[:, :changed_from], other[:, changed_from:]], dim=1)
            found, _ = model.hidden_states(mixed)
            torch.testing.assert_close(found[:, columns < changed_from], states[:, columns < changed_from], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_requests_time_reaches_the_last_item_alone(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=2, holes=False)
    states, columns = model.hidden_states(items, times, query_time)
    found, _ = model.hidden_states(items, times, query_time + 10**7)
    moved = (found - states).abs().amax((0, 2))
    assert (moved[:-1] == 0).all()
    assert columns[-1] == model.layout.window - 1
    assert (moved[-1] > 1e-4) == names.backbones()[backbone].reads_times


@torch.no_grad()
def test_the_requests_time_passes_by_an_item_in_front_of_a_gap(backbone):
    # zeros anywhere are padding: the last recent item is the one that nothing follows, not each one before a zero
    model = build(backbone, CASES["1 expert"]())
    items, times, query_time = random_windows(model.layout, seed=2, holes=False)
    items[:, -2] = 0
    states, _ = model.hidden_states(items, times, query_time)
    found, _ = model.hidden_states(items, times, query_time + 10**7)
    assert torch.equal(found[:, :-2], states[:, :-2])


# From where a gradient comes: old items 1 to 11 and recent items 12 to 23 are different rows of the catalogue


def old_and_recent(layout, *, split):
    random = torch.Generator().manual_seed(0)
    old = torch.randint(1, 12, (3, split), generator=random)
    return torch.cat([old, torch.randint(12, ITEMS, (3, layout.window - split), generator=random)], dim=1)


def movement_of(states, features):
    """How much each row of ``features`` moves a random sum of the states."""
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((states * weights).sum(), features)[0].abs().amax(1)


def gradients_of_recent_states(model, items):
    """How much each item's vector moves the states of the recent positions, by item."""
    features = random_features().requires_grad_()
    states, columns = model.hidden_states(items, item_features=features)
    return movement_of(states[:, columns >= model.layout.history], features)


def gradients_of_served_states(model, items):
    """The same of the states that are served from the history's cache."""
    features = random_features().requires_grad_()
    history, recent = items[:, : model.layout.history], items[:, model.layout.history :]
    states = model.user_states(recent, cache=model.compress(history, item_features=features), item_features=features)
    return movement_of(states, features)


def block_kept(model, *, segments):
    """Lets no gradient through the keys and values, or the states, that some segments leave to later ones."""

    def detach(module, inputs, outputs):
        states, kept = outputs
        if inputs[1].segments not in segments:
            return outputs
        return states.detach() if model.layout.recurrent else states, tuple((k.detach(), v.detach()) for k, v in kept)

    return model.backbone.register_forward_hook(detach)


@pytest.mark.parametrize("case", WITH_HISTORY)
def test_an_old_item_reaches_recent_positions_only_through_what_is_kept(backbone, case):
    model = build(backbone, CASES[case]())
    layout = model.layout
    items = old_and_recent(layout, split=layout.history)
    moved = gradients_of_recent_states(model, items)
    old = items[:, : layout.history].unique()
    kept = [segment.kept > 0 for segment in layout.segments for _ in range(segment.items)]
    arrives = torch.isin(old, items[:, : layout.history][:, torch.tensor(kept)])
    assert arrives[moved[old] > 0].all()
    assert case not in READ_WHOLE or (moved[old] > 0)[arrives].all()
    assert case not in PARTIAL or 0 < (moved[old] > 0).sum() < len(old)
    assert arrives.any() == (case != "no expert")
    ways = [gradients_of_recent_states] if len(joint_runs(layout, "segmented")) > 1 else []  # else nothing lies in between
    ways += [gradients_of_served_states] if case in CACHED else []
    for gradients in ways:
        with_block = block_kept(model, segments=range(len(layout.segments)))
        blocked = gradients(model, items)
        with_block.remove()
        assert (blocked[old] == 0).all()
        assert (blocked[items[:, layout.history :].unique()] > 0).all()


def test_an_elastic_model_without_tokens_hides_the_history(backbone):
    model = build(backbone, elastic(use=0))
    items = old_and_recent(model.layout, split=model.layout.history)
    assert (gradients_of_recent_states(model, items)[1:12] == 0).all()


def test_a_segments_items_reach_later_segments_only_through_that_segments_experts(backbone):
    model = build(backbone, experts([(3, 2), (7, 2)], window=10))  # not alike, so that each has a call, which can be blocked
    items = old_and_recent(model.layout, split=3)
    first = items[:, :3].unique()
    assert (gradients_of_recent_states(model, items)[first] > 0).all()
    # the second segment's experts see the first's, so that its items arrive through both; blocking the first stops both ways
    for blocked, arrives in (([1], True), ([0], False)):
        handle = block_kept(model, segments=blocked)
        moved = gradients_of_recent_states(model, items)[first]
        handle.remove()
        assert (moved > 0).all() if arrives else (moved == 0).all()


def test_experts_are_personal(backbone):
    model = build(backbone, CASES["1 expert"]())
    items, _, _ = random_windows(model.layout, holes=False)
    with torch.no_grad():
        cache = model.compress(items[:, : model.layout.history])
    keys = cache.layers[-1][0]
    assert (keys[0] - keys[1]).abs().max() > 1e-3  # two users' histories
    first = cache.layers[0][0]
    torch.testing.assert_close(first[0], first[1], **TOLERANCE)  # the same token for all, before it has attended


def test_the_part_declares_whether_the_backbone_reads_times(backbone):
    assert build(backbone, CASES["3 segments"]()).backbone.reads_times == names.backbones()[backbone].reads_times


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@torch.no_grad()
def test_times_change_a_state_where_they_are_read_and_nowhere_else(backbone, kernel):
    model = build(backbone, CASES["3 alike segments"]())
    model.use_kernel(kernel)
    items, times, query_time = random_windows(model.layout)
    (told, columns), (untold, _) = model.hidden_states(items, times, query_time), model.hidden_states(items)
    held = items[:, columns] != 0
    assert torch.equal(told[held], untold[held]) != names.backbones()[backbone].reads_times


@pytest.mark.parametrize("kernel", leak.KERNELS)
def test_the_law_that_a_planted_leak_is_held_against_holds(backbone, kernel):
    assert leak.change_before(leak.small_model(backbone, kernel)) <= leak.TOLERANCE
