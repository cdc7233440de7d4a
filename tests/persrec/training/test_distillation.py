"""Distillation in place: the teacher is full attention by the model's own weights, and the student alone follows it."""

import numpy as np
import pytest
import torch
from small_models import CASES, build, small_recipe, small_split
from torch.nn.functional import kl_div, normalize

from persrec.compression.full import Full
from persrec.data.windows import build_windows
from persrec.recommender import SequentialRecommender
from persrec.training import Trainer
from persrec.training.distillation import distillation, teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")
TAUGHT = ("1 expert", "3 segments")


def vectors(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def positions():
    """5 positions, 7 negatives of which one is the target of the second."""
    ids, negative_ids = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([8, 9, 2, 10, 11, 12, 13])
    return {
        "states": vectors(5, 4, seed=1).requires_grad_(),
        "teacher": vectors(5, 4, seed=2).requires_grad_(),
        "positives": vectors(5, 4, seed=3).requires_grad_(),
        "negatives": vectors(7, 4, seed=4).requires_grad_(),
        "target_ids": ids,
        "negative_ids": negative_ids,
    }


def test_it_is_the_divergence_of_the_scores_and_the_distance_of_the_states(positions):
    total = 0.0
    for row in range(5):
        allowed = positions["negative_ids"] != positions["target_ids"][row]
        items = torch.cat([positions["positives"][row : row + 1], positions["negatives"][allowed]])
        student, teacher = (normalize(positions[name][row], dim=0) for name in ("states", "teacher"))
        shares = [(normalize(items, dim=1) @ state / 0.3).log_softmax(0) for state in (student, teacher)]
        total += kl_div(shares[0], shares[1], reduction="sum", log_target=True) + (1 - student @ teacher) / 0.3
    assert distillation(**positions, temperature=0.3).item() == pytest.approx(total.item() / 5, rel=1e-10)


def test_the_students_states_alone_learn_from_it_and_nothing_is_left_to_learn_where_they_are_the_teachers(positions):
    distillation(**positions, temperature=0.3).backward()
    assert positions["states"].grad.abs().max() > 0
    assert all(positions[name].grad is None for name in ("teacher", "positives", "negatives"))
    same = positions | {"states": positions["teacher"]}
    assert distillation(**same, temperature=0.3).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("case", TAUGHT)
@pytest.mark.parametrize("backbone", ["hstu", "sasrec", "llama"])
def test_the_teacher_is_full_attention_by_the_models_own_weights(backbone, case):
    model = build(backbone, CASES[case](), lively=True)
    teacher = teacher_of(model)
    assert {id(weight) for weight in teacher.parameters()} <= {id(weight) for weight in model.parameters()}
    assert (teacher.layout.history, teacher.layout.recent) == (model.layout.history, model.layout.recent)
    assert all(segment.stays_visible for segment in teacher.layout.segments)


@pytest.mark.parametrize("case", ["full", "recent", "pooling", "retrieval", "memory"])
def test_a_model_without_a_teacher_is_refused(case):
    with pytest.raises(ValueError, match=r"^distillation: no teacher for \w+; expected expert tokens$"):
        teacher_of(build("sasrec", CASES[case](), lively=False))


@pytest.mark.parametrize("case", TAUGHT)
@pytest.mark.parametrize(("backbone", "weight"), [("hstu", 0.0), ("hstu", 2.0), ("hllm", 2.0)])
def test_the_loss_is_the_models_and_the_teachers_own_and_what_parts_them(case, backbone, weight):
    """(own + teacher's own + d x away) / (2 + d), where away is over the recent positions."""
    model, data = build(backbone, CASES[case](), lively=True), small_split(users=12, shortest=8, longest=30)

    def trainer(model, **changes):
        made = Trainer(model=model, data=data, recipe=small_recipe(recent_weight=weight, negatives=0, **changes), validate=lambda: 0.0)
        made.progress.steps = 10**6
        return made

    full = SequentialRecommender(
        items=model.items, backbone=model.backbone, compression=Full(history=model.layout.history, recent=model.layout.recent)
    )
    whole, recent = trainer(model, distillation=3.0), model.layout.recent
    rows = np.arange(5)
    batch = build_windows(data.sequences, rows, data.train_ends[rows] - 1, whole.shape)
    items, times, now = (torch.from_numpy(part) for part in (batch.items, batch.times, batch.query_times))
    targets, every = torch.from_numpy(batch.targets)[:, -recent:], torch.arange(1, model.items.count)
    ids = targets[targets > 0]
    states, taught = (one.hidden_states(items, times, now)[0][:, -recent:][targets > 0] for one in (model, full))
    away = distillation(states, taught, model.items.lookup(ids), model.items.lookup(every), ids, every, temperature=0.2)
    expected = (trainer(model).loss(batch) + trainer(full).loss(batch) + 3.0 * away) / 5.0
    assert whole.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert away.item() > 1e-3
