import math

import numpy as np
import pytest
import torch
from small_models import CASES, ITEMS, build, elastic, experts, full_users, small_recipe, small_split

from persrec.compression.recent import Recent
from persrec.data import windows
from persrec.data.protocol import Protocol
from persrec.data.splits import Sequences, Split, Targets
from persrec.data.windows import build_windows
from persrec.layout import layout_id
from persrec.training import Trainer, loop

pytestmark = pytest.mark.usefixtures("one_thread")


def train(case, data, **changes):
    compression = CASES[case]() if isinstance(case, str) else case
    model = build("hstu", compression, lively=False)
    result = Trainer(model=model, data=data, recipe=small_recipe(**changes), validate=lambda: 1.0).run()
    return model, result


@pytest.mark.parametrize(("case", "widest"), [("full", 13), ("3 segments", 13), ("recent", 5), ("pooling", 4)])
def test_every_layout_has_as_many_targets_a_step_and_steps_an_epoch(steps, case, widest):
    data = small_split(users=16, shortest=4, longest=40)
    targets = int((data.train_ends - 1).sum())
    _, result = train(case, data, targets_per_step=52, epochs=3, patience=3)
    of_an_epoch = math.ceil(targets / 52)
    assert [report.steps for report in result.curve] == [of_an_epoch, 2 * of_an_epoch, 3 * of_an_epoch]
    assert result.steps == len(steps) == 3 * of_an_epoch
    assert all(abs(step["targets"] - 52) < widest for step in steps)
    assert result.targets == sum(step["targets"] for step in steps)


def test_a_step_holds_one_window_where_a_window_carries_more_targets_than_a_step(steps):
    train("full", full_users(users=5, length=14), targets_per_step=10)
    assert [step["targets"] for step in steps] == [13] * 7  # 65 targets, 10 a step


def test_an_epoch_predicts_every_training_item_but_the_first_of_each_user(steps, monkeypatch):
    data = full_users(users=6, length=14)  # all fit into a window of 13
    taken = []
    own = loop.build_windows

    def build_windows(sequences, users, ends, shape, **more):
        taken.extend(zip(users.tolist(), ends.tolist(), strict=True))
        return own(sequences, users, ends, shape, **more)

    monkeypatch.setattr(loop, "build_windows", build_windows)
    train("3 segments", data, targets_per_step=26)
    assert sorted(taken) == [(user, 13) for user in range(6)]
    assert sum(step["targets"] for step in steps) == int((data.train_ends - 1).sum())


def test_nothing_to_predict_is_bad_input_before_training():
    model = build("hstu", Recent(recent=6), lively=False)
    data = small_split(shortest=3, longest=3)
    trainer = Trainer(model=model, data=data, recipe=small_recipe(), validate=lambda: pytest.fail("trained"))
    with pytest.raises(ValueError, match="^data: no user has the 2 training items "):
        trainer.run()


@pytest.mark.parametrize("case", ["full", "3 segments", "recent", "pooling"])
def test_the_loss_of_an_epoch_is_the_mean_over_what_it_predicted(steps, case):
    _, result = train(case, small_split(users=12, shortest=4, longest=25), targets_per_step=26)
    predicted = sum(step["targets"] for step in steps)
    assert result.curve[0].loss == pytest.approx(sum(step["loss"] * step["targets"] for step in steps) / predicted)


@pytest.mark.parametrize("negatives", [1, 16])
def test_the_number_of_negatives_is_the_same_at_every_length(steps, negatives):
    for compression, length in ((Recent(recent=2), 3), (Recent(recent=13), 14), (CASES["3 segments"](), 14)):
        train(compression, full_users(users=4, length=length), negatives=negatives, targets_per_step=26)
    assert {step["negatives"] for step in steps} == {negatives}


def test_negatives_are_drawn_from_the_whole_catalogue_without_padding(steps):
    train("recent", small_split(users=30), negatives=64)
    drawn = torch.cat([step["negative_ids"] for step in steps])
    assert sorted(set(drawn.tolist())) == list(range(1, ITEMS))


def test_the_temperature_is_the_recipes(steps):
    train("recent", small_split(users=4), temperature=0.07)
    assert {step["temperature"] for step in steps} == {0.07}


def test_everything_but_the_item_vectors_warms_up(steps):
    train("recent", full_users(users=8, length=6), targets_per_step=10, warmup_steps=4, learning_rate=0.01)
    of_items, of_experts, of_rest = zip(*(step["rates"] for step in steps), strict=True)
    assert len(steps) >= 4
    assert of_items == tuple([0.01] * len(steps))
    assert of_experts == of_rest
    assert of_rest == pytest.approx([0.01 * min(1, step / 4) for step in range(1, len(steps) + 1)])


def test_without_a_warm_up_all_weights_learn_alike(steps):
    train("recent", small_split(users=4), warmup_steps=0, learning_rate=0.01)
    assert all(step["rates"] == [0.01, 0.01, 0.01] for step in steps)


@pytest.mark.parametrize("own", [None, 0.003])
def test_the_first_step_moves_item_vectors_by_their_learning_rate_and_the_rest_by_its_warm_share(own):
    # AdamW's first step moves every weight that has a gradient by the learning rate
    torch.manual_seed(0)
    model = build("sasrec", CASES["1 expert"](), lively=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = full_users(users=4, length=14)
    recipe = small_recipe(targets_per_step=1000, warmup_steps=10, learning_rate=0.01, item_learning_rate=own)
    Trainer(model=model, data=data, recipe=recipe, validate=lambda: 1.0).run()
    moved = {name: float((weight - before[name]).abs().max()) for name, weight in model.state_dict().items()}
    assert moved.pop("items.embedding.weight") == pytest.approx(own or 0.01, rel=1e-3)
    assert max(moved.values()) == pytest.approx(0.001, rel=1e-2)


def test_the_first_step_moves_tokens_by_a_learning_rate_of_their_own():
    torch.manual_seed(0)
    model = build("sasrec", CASES["1 expert"](), lively=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    recipe = small_recipe(targets_per_step=1000, warmup_steps=10, learning_rate=0.01, expert_learning_rate=0.03)
    Trainer(model=model, data=full_users(users=4, length=14), recipe=recipe, validate=lambda: 1.0).run()
    moved = {name: float((weight - before[name]).abs().max()) for name, weight in model.state_dict().items()}
    assert max(moved.pop(name) for name in list(moved) if name.startswith("compression.tokens")) == pytest.approx(0.003, rel=1e-2)
    del moved["items.embedding.weight"]
    assert max(moved.values()) == pytest.approx(0.001, rel=1e-2)


@pytest.mark.parametrize(
    ("case", "length", "moving", "newest"),
    [
        ("1 expert", 14, False, {13}),  # 13 targets are as many as a window of 9 + 4 has
        ("1 expert", 14, True, set(range(5, 14))),  # one item of history at least
        ("1 expert", 30, False, set(range(17, 30))),
        ("1 expert", 30, True, set(range(17, 30))),  # no further back than a window's 13 targets
        ("recent", 8, False, {5, 6, 7}),  # windows of 5
        ("recent", 8, True, {5, 6, 7}),  # no history that could be left
    ],
)
def test_a_users_newest_window_moves_as_the_recipe_says(case, length, moving, newest, monkeypatch):
    found = set()
    own = windows.window_plan

    def window_plan(lengths, **how):
        users, ends = own(lengths, **how)
        found.update(int(ends[users == user].max()) for user in range(len(lengths)))
        return users, ends

    monkeypatch.setattr(windows, "window_plan", window_plan)
    data = full_users(users=8, length=length)
    recipe = small_recipe(moving_windows=moving, epochs=40, patience=40)
    Trainer(model=build("sasrec", CASES[case](), lively=False), data=data, recipe=recipe, validate=lambda: 1.0).run()
    assert found == newest


def test_an_elastic_model_trains_with_every_count_it_is_asked_for(monkeypatch):
    model = build("hstu", elastic(use=6), lively=False)
    used = []
    own = model.compression.use

    def use(tokens):
        used.append(tokens)
        own(tokens)

    monkeypatch.setattr(model.compression, "use", use)
    recipe = small_recipe(token_counts=(0, 2, 6), targets_per_step=13, epochs=2, patience=2)
    at_validation = []

    def validate():
        at_validation.append(model.layout.tokens)
        return 1.0

    model.compression.use(4)
    trainer = Trainer(model=model, data=small_split(users=16), recipe=recipe, validate=validate)
    assert model.layout.tokens == 4
    used.clear()
    trainer.run()
    assert set(used[::2]) == {0, 2, 6}
    assert set(used[1::2]) == {4}  # behind each step the count it came with: a figure by the last draw would be chance
    assert set(at_validation) == {model.layout.tokens} == {4}


def test_larger_counts_are_drawn_more_often():
    model = build("hstu", elastic(use=6), lively=False)
    trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(token_counts=(0, 2, 6)), validate=lambda: 1.0)
    drawn = []
    for _ in range(600):
        with trainer._random_tokens():
            drawn.append(model.layout.tokens)
    assert [drawn.count(count) / 600 for count in (0, 2, 6)] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.06)


@pytest.mark.parametrize(
    ("plan", "counts", "refused"),
    [([(4, 2), (9, 4)], (2,), "tokens: 6 on 2 segments"), ([(4, 3), (9, 3)], (0, 3), "tokens: 3 on 2 segments")],
)
def test_counts_that_a_model_cannot_keep_are_refused_before_it_is_trained(plan, counts, refused):
    model = build("hstu", experts(plan, window=13), lively=False)
    layout = model.layout
    with pytest.raises(ValueError, match=refused):
        Trainer(model=model, data=small_split(), recipe=small_recipe(token_counts=counts), validate=lambda: 1.0)
    assert layout_id(model.layout) == layout_id(layout)


def test_token_counts_of_a_model_that_has_one_are_refused():
    model = build("hstu", CASES["recent"](), lively=False)
    with pytest.raises(ValueError, match="^token_counts: drawn for Recent; expected a compression that serves several$"):
        Trainer(model=model, data=small_split(), recipe=small_recipe(token_counts=(0, 2)), validate=lambda: 1.0)


def test_a_model_elastic_in_history_trains_with_every_length_it_is_asked_for(monkeypatch, steps):
    lengths, most = set(), []
    own = loop.build_windows

    def build_windows(sequences, users, ends, shape, **more):
        batch = own(sequences, users, ends, shape, **more)
        lengths.add(more["history"])
        most.append(int((batch.items > 0).sum(axis=1).max()))
        assert most[-1] <= 4 + more["history"]  # 4 recent ones
        return batch

    monkeypatch.setattr(loop, "build_windows", build_windows)
    data = full_users(users=16, length=14)
    train("3 segments", data, history_lengths=(0, 5, 9), targets_per_step=52, epochs=4, patience=4)
    assert lengths == {0, 5, 9}
    assert {4, 9, 13} <= set(most)
    assert all(abs(step["targets"] - 52) < 13 for step in steps)


def test_a_length_that_the_layout_does_not_have_is_refused():
    model = build("hstu", CASES["3 segments"](), lively=False)
    with pytest.raises(ValueError, match="^history_lengths: 10; expected 0 to 9, the items of the layout's history$"):
        Trainer(model=model, data=small_split(), recipe=small_recipe(history_lengths=(10,)), validate=lambda: 1.0)


def test_a_model_of_one_count_keeps_it():
    model = build("hstu", elastic(use=4), lively=False)
    Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 1.0).run()
    assert model.layout.tokens == 4


def test_times_reach_the_model_where_the_recipe_says_so(monkeypatch):
    for time_bias in (True, False):
        model = build("hstu", Recent(recent=6), lively=False)
        given = []
        own = model.hidden_states

        def hidden_states(items, times=None, query_time=None, own=own, given=given, **more):
            given.append((times is not None, query_time is not None))
            return own(items, times, query_time, **more)

        monkeypatch.setattr(model, "hidden_states", hidden_states)
        Trainer(model=model, data=small_split(), recipe=small_recipe(time_bias=time_bias), validate=lambda: 1.0).run()
        assert set(given) == {(time_bias, time_bias)}


# The share of padding


def split_of(lengths):
    """Users of so many events each, who are trained on whole but for their last two."""
    items = np.arange(sum(lengths)) % (ITEMS - 1) + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sequences = Sequences(offsets=offsets, items=items, times=60 * np.arange(1, len(items) + 1))
    ends, users = np.array(lengths), np.arange(len(lengths))
    validation, test = (Targets(users=users, positions=ends - back) for back in (2, 1))
    return Split(
        name="leave-one-out",
        sequences=sequences,
        num_items=ITEMS,
        protocol=Protocol(),
        train_ends=ends - 2,
        validation=validation,
        test=test,
    )


def padding_share(case, lengths, *, targets_per_step):
    _, result = train(case, split_of(lengths), targets_per_step=targets_per_step)
    return result.curve[0].padding_share


def test_full_windows_hold_no_padding():
    for case, stride in (("full", 13), ("3 segments", 13), ("recent", 5)):
        assert padding_share(case, [stride + 3] * 4, targets_per_step=2 * stride) == 0


def test_short_users_pad_the_recent_slots():
    # windows of 5 with 3 and 5 items, a step of both: no column is left out where nothing comes before
    assert padding_share("recent", [6, 8], targets_per_step=3 + 5) == pytest.approx(2 / 10)


def test_columns_that_are_padding_in_every_row_are_not_computed():
    # history of 9 in one segment, 4 recent; 7 and 11 items to predict from fill 3 and 7 slots of the history
    assert padding_share("full", [10, 14], targets_per_step=7) == 0  # a step each
    assert padding_share("full", [10, 14], targets_per_step=7 + 11) == pytest.approx(4 / (2 * 11))


def test_the_share_is_one_of_what_was_computed_whatever_the_compression():
    for case in CASES:
        assert 0 <= padding_share(case, [10, 14, 30, 4], targets_per_step=26) < 1


# The recipe


@pytest.mark.parametrize(("steps", "share"), [(0, 0.0), (2, 0.25), (5, 1.0)])
def test_the_loss_turns_to_the_recent_items_as_training_goes_on(steps, share):
    """At the weight w that is reached: (mean over all + w times the mean over the recent) / (1 + w)."""
    model, data = build("sasrec", CASES["1 expert"](), lively=True), small_split(shortest=6)
    users = np.arange(4)
    losses = {}
    for weight in (0.0, 2.0):
        trainer = Trainer(model=model, data=data, recipe=small_recipe(recent_weight=weight, recent_weight_steps=4), validate=lambda: 0.0)
        trainer.progress.steps = steps
        batch = build_windows(data.sequences, users, data.train_ends[users] - 1, trainer.shape)
        losses[weight] = trainer.loss(batch).item()
    trainer = Trainer(model=model, data=data, recipe=small_recipe(), validate=lambda: 0.0)
    batch.targets[:, : -trainer.shape.recent] = 0  # so that the recent items alone predict
    of_recent = trainer.loss(batch).item()
    reached = 2.0 * share
    assert losses[2.0] == pytest.approx((losses[0.0] + reached * of_recent) / (1 + reached), rel=1e-6)
    assert abs(of_recent - losses[0.0]) > 1e-3


def a_batch(model, data, recipe, users=4):
    trainer = Trainer(model=model, data=data, recipe=recipe, validate=lambda: 0.0)
    rows = np.arange(users)
    return trainer, build_windows(data.sequences, rows, data.train_ends[rows] - 1, trainer.shape)


@pytest.mark.parametrize("case", ["1 expert", "3 segments"])
def test_each_expert_token_predicts_the_item_that_follows_its_segment(case):
    """At weight w: (mean over all items + w times the mean over the tokens) / (1 + w)."""
    model, data = build("hstu", CASES[case](), lively=True), small_split(users=12, shortest=4, longest=30)
    plain, batch = a_batch(model, data, small_recipe(negatives=0))
    weighted, _ = a_batch(model, data, small_recipe(negatives=0, expert_weight=3.0))
    items, targets, times, query_times = (torch.from_numpy(part) for part in (batch.items, batch.targets, batch.times, batch.query_times))
    hidden, columns = model.hidden_states(items, times, query_times, experts=True)
    tokens, layout = model.layout.tokens, model.layout
    ends = np.repeat(np.array(layout.offsets) - 1, [segment.experts for segment in layout.segments])
    assert columns[-tokens:].tolist() == ends.tolist()
    features, losses = model.item_features(), []
    for row in range(len(items)):
        for token, end in enumerate(ends):
            if items[row, end] == 0:
                continue  # nothing lies in its segment
            (behind,) = items[row, end + 1 :].nonzero(as_tuple=True)
            following = items[row, end + 1 + behind[0]]  # a user of few items leaves places between segments empty
            assert targets[row, end] == following
            scores = features[1:] @ torch.nn.functional.normalize(hidden[row, hidden.shape[1] - tokens + token], dim=0) / 0.2
            losses.append(scores.logsumexp(0) - scores[following - 1])
    expected = (plain.loss(batch) + 3.0 * torch.stack(losses).mean()) / 4.0
    assert weighted.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(weighted.loss(batch).item() - plain.loss(batch).item()) > 1e-3


def test_without_negatives_to_draw_the_loss_is_over_every_item():
    model, data = build("sasrec", CASES["recent"](), lively=True), small_split()
    trainer, batch = a_batch(model, data, small_recipe(negatives=0))
    hidden, columns = model.hidden_states(*(torch.from_numpy(part) for part in (batch.items, batch.times, batch.query_times)))
    targets = torch.from_numpy(batch.targets)[:, columns]
    scores = torch.nn.functional.normalize(hidden, dim=-1) @ model.item_features()[1:].T / 0.2
    expected = torch.nn.functional.cross_entropy(scores[targets > 0], targets[targets > 0] - 1)
    assert trainer.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(trainer.draw()[0], torch.arange(1, model.items.count))


def test_tokens_that_are_not_there_weigh_nothing():
    """An elastic step of no token is that of the items alone: what expert tokens lose has no share of it."""
    model, data = build("hstu", elastic(use=0), lively=True), small_split(users=12, shortest=4, longest=30)
    plain, batch = a_batch(model, data, small_recipe(negatives=0))
    weighted, _ = a_batch(model, data, small_recipe(negatives=0, expert_weight=3.0))
    assert weighted.loss(batch).item() == pytest.approx(plain.loss(batch).item(), rel=1e-6)


def test_summaries_predict_nothing_so_no_weight_is_taken_for_them():
    model = build("hstu", CASES["pooling"](), lively=True)
    with pytest.raises(ValueError, match=r"^expert_weight: 3; expected 0 where summaries stand for the history$"):
        a_batch(model, small_split(), small_recipe(expert_weight=3.0))


def test_the_optimiser_has_the_recipes_decay_and_the_betas_of_the_method():
    model = build("hstu", CASES["1 expert"](), lively=True)
    trainer, batch = a_batch(model, small_split(), small_recipe(weight_decay=0.3, warmup_steps=0, learning_rate=0.1))
    assert [(group["weight_decay"], group["betas"]) for group in trainer._optimizer.param_groups] == [(0.3, (0.9, 0.98))] * 3
    before = model.backbone.positions.weight.detach().clone()
    model.backbone.positions.weight.requires_grad_(False)
    model.backbone.positions.weight.grad = torch.zeros_like(before)
    trainer._optimizer.zero_grad = lambda set_to_none: None
    trainer.step(batch)
    torch.testing.assert_close(model.backbone.positions.weight, before * (1 - 0.1 * 0.3))  # a weight without a gradient decays alone
