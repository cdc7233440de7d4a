"""Segments that end somewhere else in every step of a training: what moves, what stays, and which models cannot be cut."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from small_models import CASES, TOLERANCE, build, elastic, experts, small_recipe, small_split

from persrec.data.windows import WindowShape, random_segments
from persrec.training import Trainer, loop

pytestmark = pytest.mark.usefixtures("one_thread")


def test_all_ways_to_cut_a_history_are_equally_likely():
    drawn = Counter(
        random_segments(WindowShape(segments=(2, 2, 2), recent=1), rng) for rng in [np.random.default_rng(0)] for _ in range(5000)
    )
    ways = {tuple(later - earlier for earlier, later in pairwise((0, *ends, 6))) for ends in combinations(range(1, 6), 2)}
    assert set(drawn) == ways
    assert max(drawn.values()) < 1.2 * 5000 / len(ways)
    assert min(drawn.values()) > 0.8 * 5000 / len(ways)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["hstu", "sasrec", "llama"])
def test_a_model_that_is_cut_is_the_model_of_that_plan_with_its_weights(backbone):
    """Tokens and positions are the same weights, wherever the segments end."""
    cut, planned = (build(backbone, experts(plan, window=13)) for plan in ([(3, 2), (6, 2), (9, 2)], [(1, 2), (6, 2), (9, 2)]))
    planned.load_state_dict(cut.state_dict())
    items = torch.randint(1, 24, (4, 13), generator=torch.Generator().manual_seed(0))
    as_planned = cut.hidden_states(items)[0]
    cut.compression.cut([1, 5, 3])
    torch.testing.assert_close(cut.hidden_states(items)[0], planned.hidden_states(items)[0], **TOLERANCE)
    assert not torch.allclose(cut.hidden_states(items)[0], as_planned, atol=1e-3)
    cut.compression.cut(None)
    assert torch.equal(cut.hidden_states(items)[0], as_planned)


def test_an_elastic_model_keeps_its_cut_under_another_count_and_its_places():
    compression = elastic(use=6)
    length = compression.layout.length
    compression.cut([2, 7])
    compression.use(2)
    assert [(s.items, s.experts, s.slots_for_experts) for s in compression.layout.segments] == [(2, 1, 3), (7, 1, 3)]
    assert compression.layout.length == length
    compression.cut(None)
    assert [segment.items for segment in compression.layout.segments] == [5, 4]


@pytest.mark.parametrize("items", [[9], [3, 5], [4, 4, 1], [0, 9]])
def test_another_history_is_refused(items):
    with pytest.raises(ValueError, match="^items: "):
        elastic(use=6).cut(items)


@pytest.mark.parametrize("case", ["1 expert", "pooling", "full in 2 segments", "memory of 3 segments"])
def test_one_segment_and_what_has_no_experts_cannot_be_cut(case):
    with pytest.raises(ValueError, match=r"^random_cuts: true with \d segments of \w+; expected experts of 2 or more$"):
        Trainer(model=build("hstu", CASES[case]()), data=small_split(), recipe=small_recipe(random_cuts=True), validate=lambda: 1.0)


@pytest.mark.parametrize("random_cuts", [False, True])
def test_steps_are_cut_anew_and_what_is_validated_as_planned(monkeypatch, random_cuts):
    model, shapes, validated = build("hstu", CASES["3 segments"](), lively=False), set(), []
    own = loop.build_windows

    def build_windows(sequences, users, ends, shape, **more):
        assert shape.segments == tuple(segment.items for segment in model.layout.segments)
        shapes.add(shape.segments)
        return own(sequences, users, ends, shape, **more)

    def validate():
        validated.append(model.layout)
        return 1.0

    monkeypatch.setattr(loop, "build_windows", build_windows)
    planned = model.layout
    recipe = small_recipe(random_cuts=random_cuts, targets_per_step=26, epochs=4, patience=4)
    Trainer(model=model, data=small_split(users=16), recipe=recipe, validate=validate).run()
    assert {planned} == set(validated) == {model.layout}
    assert len(shapes) > 10 if random_cuts else shapes == {(3, 3, 3)}


def test_a_step_that_fails_leaves_the_plan(monkeypatch):
    model = build("hstu", CASES["3 segments"](), lively=False)
    trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(random_cuts=True), validate=lambda: 1.0)
    planned = model.layout

    def step(batch):
        assert model.layout != planned
        raise KeyboardInterrupt

    trainer._rng = np.random.default_rng(1)
    monkeypatch.setattr(trainer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert model.layout == planned
