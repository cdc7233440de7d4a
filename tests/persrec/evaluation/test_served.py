"""Served from a cache everyone is who they were; stale, shuffled, random and others' caches change the history and no more."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import BACKBONE_NAMES, CACHED, CASES, TOLERANCE, build, random_windows, small_recipe, small_split

from persrec.data.splits import Targets
from persrec.data.windows import WindowShape, build_windows
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.served import Serving, _Noise, another, served_states, shuffled
from persrec.evaluation.states import user_states
from persrec.names import ABLATIONS, CACHE_PRECISIONS
from persrec.serving import CacheStore
from persrec.training import Trainer

DATA = small_split(users=17, longest=30)


def served(model, *, time_bias=True, dtype="float32", batch_size=5, part="test", **changes):
    serving = Serving(new_caches=lambda: CacheStore(layout=model.layout, dtype=dtype), **changes)
    return served_states(model, DATA, part, serving=serving, time_bias=time_bias, batch_size=batch_size)


def joint_of(model, rows, history_of, *, staleness=0, targets=DATA.test):
    """The joint pass over windows whose recent items are the rows' and whose history is that of ``history_of``."""
    shape = WindowShape(segments=tuple(segment.items for segment in model.layout.segments), recent=model.layout.recent)
    own = build_windows(DATA.sequences, targets.users[rows], targets.positions[rows], shape)
    other = build_windows(DATA.sequences, targets.users[history_of], targets.positions[history_of], shape, gap=staleness)
    joined = [
        torch.from_numpy(np.concatenate([theirs[:, : shape.history], ours[:, shape.history :]], axis=1))
        for ours, theirs in ((own.items, other.items), (own.times, other.times))
    ]
    with torch.no_grad():
        return model.user_states(*joined, torch.from_numpy(own.query_times))


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("case", CACHED)
def test_served_from_a_fresh_cache_of_floats_everyone_is_as_in_the_joint_pass(backbone, case):
    model = build(backbone, CASES[case]())
    for time_bias, part in ((True, "test"), (False, "validation")):
        joint = user_states(model, DATA, part, time_bias=time_bias)
        torch.testing.assert_close(served(model, time_bias=time_bias, part=part), joint, **TOLERANCE)


def test_random_tokens_of_a_memory_are_refused():
    model = build("hstu", CASES["memory"]())
    with pytest.raises(ValueError, match=r"^ablation: 'random_tokens' of a memory, which keeps states; "):
        served(model, ablation="random_tokens")


@pytest.mark.parametrize("case", ["3 segments", "full in 2 segments", "pooling"])
@pytest.mark.parametrize("staleness", [1, 4, 100])
def test_a_stale_cache_holds_the_history_that_ends_so_many_items_before_the_recent_ones(case, staleness):
    """Target, recent items and the request's time stay; from differences.md, point 11."""
    model = build("hstu", CASES[case]())
    rows = np.arange(len(DATA.test.users))
    found = served(model, staleness=staleness)
    torch.testing.assert_close(found, joint_of(model, rows, rows, staleness=staleness), **TOLERANCE)
    changed = (found - served(model)).abs().amax(1) > 1e-6
    older = DATA.test.positions - model.layout.recent > 0
    assert changed.tolist() == older.tolist()  # who has no history has none that could be stale


def test_another_users_cache_is_served_with_ones_own_recent_items():
    model = build("sasrec", CASES["unequal plan"]())
    rows = np.arange(len(DATA.test.users))
    found = served(model, ablation="other_user", seed=3)
    torch.testing.assert_close(found, joint_of(model, rows, another(rows, 3)), **TOLERANCE)
    assert not torch.allclose(found, served(model, ablation="other_user", seed=4))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_users_of_several_targets_are_served_as_often(ablation):
    """Of a temporal split: another user's cache serves all of a user's targets, and batches hold it more than once."""
    model = build("sasrec", CASES["unequal plan"]())
    users = np.repeat(np.arange(17), 3)
    targets = Targets(users=users, positions=DATA.test.positions[users] - np.tile([2, 1, 0], 17))
    several = replace(DATA, test=targets)
    serving = Serving(new_caches=lambda: CacheStore(layout=model.layout), ablation=ablation, seed=3)
    found, at_once = (served_states(model, several, "test", serving=serving, time_bias=True, batch_size=size) for size in (5, len(targets)))
    assert len(found) == 51
    if ablation in ("none", "shuffled_history", "other_user"):  # random numbers are drawn batch by batch
        torch.testing.assert_close(found, at_once, **TOLERANCE)
    if ablation == "other_user":
        torch.testing.assert_close(found, joint_of(model, np.arange(51), another(users, 3), targets=targets), **TOLERANCE)


@given(users=st.integers(2, 50), seed=st.integers(0, 100))
def test_everyone_gets_another_and_everyone_serves_once(users, seed):
    others = another(np.arange(users), seed)
    assert sorted(others) == list(range(users))
    assert (others != np.arange(users)).all()
    assert np.array_equal(others, another(np.arange(users), seed))


def test_one_user_alone_has_no_other():
    with pytest.raises(ValueError, match=r"^users: 1; expected at least 2, for another user's cache$"):
        another(np.zeros(2, dtype=np.int64), 0)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 100))
def test_a_shuffled_history_holds_the_same_items_in_the_same_slots(lengths, seed):
    items = np.array([[0] * (9 - length) + list(range(1, length + 1)) for length in lengths])
    users = np.arange(len(lengths)) + 40
    mixed = shuffled(items, users, seed)
    assert np.array_equal(mixed == 0, items == 0)
    assert np.array_equal(np.sort(mixed), np.sort(items))
    alone = [shuffled(items[row : row + 1], users[row : row + 1], seed)[0] for row in range(len(lengths))]
    assert np.array_equal(mixed, np.array(alone))  # whoever shares the batch


def test_shuffling_moves_items_across_segments_and_time():
    items = np.arange(1, 201)[None]
    mixed = shuffled(items, np.array([0]), 1)[0]
    assert abs(np.corrcoef(items[0], mixed)[0, 1]) < 0.2
    assert (mixed != items[0]).mean() > 0.9


def test_random_vectors_have_the_moments_of_each_layers_keys_and_of_its_values():
    model = build("hstu", CASES["3 segments"]())
    items, times, _ = random_windows(model.layout, holes=False)
    cache = model.compress(items[:, :9], times[:, :9])
    users, known, generator = 4000, ((3.0, 1.0), (-1.0, 5.0), (0.0, 0.2), (7.0, 2.0)), torch.Generator().manual_seed(1)

    def drawn(tensor: torch.Tensor, place: int) -> torch.Tensor:
        mean, deviation = known[place]
        return mean + deviation * torch.randn(users, *tensor.shape[1:], generator=generator)

    layers = tuple((drawn(keys, 2 * layer), drawn(values, 2 * layer + 1)) for layer, (keys, values) in enumerate(cache.layers))
    wide = replace(cache, layers=layers, valid=torch.ones(users, cache.valid.shape[1], dtype=torch.bool))
    noise = _Noise.from_caches([wide])
    for (mean, deviation), moments in zip(known, noise.moments, strict=True):
        assert moments == pytest.approx((mean, deviation), rel=0.05, abs=0.05)
    numbers = [tensor for pair in noise.replacement(wide, generator).layers for tensor in pair]
    for (mean, deviation), tensor in zip(known, numbers, strict=True):
        assert (float(tensor.mean()), float(tensor.std())) == pytest.approx((mean, deviation), rel=0.05, abs=0.05)


def test_random_vectors_have_the_size_of_the_real_ones_and_nothing_of_the_user():
    model = build("hstu", CASES["3 segments"]())
    kept: list[torch.Tensor] = []

    def watched(items, *args, cache):
        kept.extend(tensor.transpose(1, 2)[cache.valid].flatten() for pair in cache.layers for tensor in pair)
        return answer(items, *args, cache=cache)

    answer = model.user_states
    model.user_states = watched
    sizes = {}
    for ablation in ("none", "random_tokens"):
        kept.clear()
        served(model, ablation=ablation)
        parts = [torch.cat(kept[place::4]) for place in range(4)]  # 2 layers, keys and values
        sizes[ablation] = torch.tensor([[part.mean(), part.std()] for part in parts])
        histories = [torch.cat(kept[place::4]) for place in range(4)]
        sizes[ablation, "numbers"] = histories
    torch.testing.assert_close(sizes["random_tokens"], sizes["none"], rtol=0, atol=0.15)
    for real, drawn in zip(sizes["none", "numbers"], sizes["random_tokens", "numbers"], strict=True):
        assert abs(np.corrcoef(real, drawn)[0, 1]) < 0.1


@pytest.mark.parametrize("ablation", ["random_tokens", "shuffled_history", "other_user"])
def test_an_ablation_is_the_same_for_the_same_seed_and_another_for_another(ablation):
    model = build("hstu", CASES["3 segments"]())
    first, again, other, fresh = (served(model, ablation=a, seed=s) for a, s in ((ablation, 1), (ablation, 1), (ablation, 2), ("none", 1)))
    assert torch.equal(first, again)
    for one, two in itertools.combinations((first, other, fresh), 2):
        assert (one - two).abs().max() > 1e-4


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.03), ("int8", 0.05)])
def test_what_a_precision_loses_reaches_the_states(dtype, atol):
    model = build("sasrec", CASES["3 segments"]())
    exact, found = served(model), served(model, dtype=dtype)
    torch.testing.assert_close(found, exact, rtol=0, atol=atol)
    assert not torch.equal(found, exact)


def test_the_model_is_left_as_it_was():
    model = build("hstu", CASES["1 expert"](), dropout=0.3).train()
    first, second = served(model), served(model, batch_size=3)
    assert model.training
    torch.testing.assert_close(first, second, **TOLERANCE)  # without dropout, whoever shares the batch


def test_settings_that_do_not_hold_up():
    model = build("hstu", CASES["recent"]())
    with pytest.raises(ValueError, match=r"^model: its layout has no history"):
        served(model)
    with pytest.raises(ValueError, match=r"^ablation: unknown 'shuffled'; known: none, random_tokens, shuffled_history, other_user$"):
        served(model, ablation="shuffled")
    with pytest.raises(ValueError, match=r"^staleness: -1; expected 0 or more items$"):
        served(model, staleness=-1)


# Types of numbers


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_a_model_of_bfloat16_is_trained_and_evaluated_from_end_to_end(backbone):
    model = build(backbone, CASES["3 segments"](), lively=False).to(torch.bfloat16)

    def features():
        return model.item_features().detach()

    def validate():
        states = user_states(model, DATA, "validation", time_bias=True)
        assert states.dtype == torch.bfloat16
        return float((1 / target_ranks(states, features(), DATA.targets("validation"))).mean())

    result = Trainer(model=model, data=DATA, recipe=small_recipe(epochs=2), validate=validate).run()
    assert result.diverged_at is None
    joint = user_states(model, DATA, "test", time_bias=True)
    for ablation, dtype in itertools.product(ABLATIONS, CACHE_PRECISIONS):
        states = served(model, ablation=ablation, dtype=dtype)
        assert (states.dtype, states.shape) == (torch.bfloat16, joint.shape)
        assert target_ranks(states, features(), DATA.targets("test")).min() >= 1
        if (ablation, dtype) == ("none", "float32"):
            torch.testing.assert_close(states, joint, rtol=0, atol=0.05)  # 8 significant bits through two layers


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_model_is_put_back_as_it_was_when_its_evaluation_fails(part, monkeypatch):
    model = build("hllm", CASES["1 expert"]()).train()
    monkeypatch.setattr(model, "user_states", lambda *_, **__: 1 / 0)
    for evaluate in (lambda: user_states(model, DATA, part, time_bias=True), lambda: served(model, part=part)):
        with pytest.raises(ZeroDivisionError):
            evaluate()
        assert (model.training, model.items.kept.on) == (True, False)


def test_the_texts_of_a_catalogue_are_read_once_for_all_users(monkeypatch):
    model = build("hllm", CASES["1 expert"]())
    read, encode = [], model.items.encode
    monkeypatch.setattr(model.items, "encode", lambda ids, lengths: read.append(len(ids)) or encode(ids, lengths))
    user_states(model, DATA, "test", time_bias=True, batch_size=5)
    assert read == [model.items.count]
    served(model)
    assert read == [model.items.count] * 2
