import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.trained import endings, not_converged, own_validation, steps_in_words, unequal, validation
from benchmarks.cell import Cell


def trained(*, tokens: int = 4, settings: dict | None = None, **model):
    record = fabricate(Cell(backbone="hstu", compression="experts", tokens=tokens, **(settings or {})))
    record["model"] |= model
    return record


def pair(first: dict, second: dict):
    return sorted(configured([first, second]), key=lambda one: one.cell.tokens)


def test_alike_models_that_converged_are_comparable():
    assert unequal(*pair(trained(), trained(tokens=8))) == ()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"steps": 50, "converged": None}, "half the steps: 100 against 50 steps"),
        ({"converged": False}, "not converged"),
        ({"settings": {"epochs": 9}, "steps": 100}, "different bounds on steps"),
        ({"settings": {"batch_size": 64}}, "different bounds on steps"),
    ],
)
def test_what_was_trained_otherwise_is_not(other, reason):
    one, two = pair(trained(), trained(tokens=8, **other))
    assert unequal(one, two) == (reason,)


@pytest.mark.parametrize(
    ("other", "reasons"),
    [
        ({"compression": "pooling", "tokens": 4}, ("only one side had a teacher",)),
        ({"compression": "recent", "recent": 20, "history": 60}, ("only one side had a teacher",)),
        ({"compression": "recent", "recent": 16, "history": 64}, ()),  # the control
        ({"compression": "experts", "tokens": 0}, ()),
        ({"compression": "experts", "tokens": 4}, ()),  # the teacher is what the two are compared by
        ({"compression": "full"}, ()),  # the teacher
    ],
)
def test_a_rival_that_was_not_taught_was_trained_unequally(other, reasons):
    settings = {"compression": "experts", "tokens": 4, "history": 64, "recent": 16}
    cells = [Cell(backbone="hstu", **settings, distillation=1.0), Cell(backbone="hstu", **(settings | {"tokens": 0} | other))]
    untaught, taught = sorted(configured([fabricate(cell) for cell in cells]), key=lambda one: one.cell.distillation)
    assert unequal(taught, untaught) == unequal(untaught, taught) == reasons


def test_models_that_both_converged_are_comparable_however_many_steps_each_took():
    assert unequal(*pair(trained(), trained(tokens=8, steps=50))) == ()


def test_steps_are_said_where_they_differ():
    assert steps_in_words(*pair(trained(), trained(tokens=8))) == ""
    assert steps_in_words(*pair(trained(), trained(tokens=8, steps=90))) == "100 against 90 steps"
    assert unequal(*pair(trained(), trained(tokens=8, steps=90))) == ()


def test_a_floor_was_trained_equally_with_everything():
    floor, ours = configured([fabricate(Cell(backbone="popularity", compression="none", training="none")), trained(converged=False)])
    assert unequal(ours, floor) == unequal(floor, ours) == ()


def test_a_model_that_serves_several_cells_counts_once():
    shared = {"key": "k", "converged": False}
    ends = endings(configured([trained(**shared), trained(tokens=8, **shared), trained(tokens=2, converged=None), trained(tokens=1)]))
    assert (ends.models, ends.not_converged, ends.not_recorded, len(ends.stopped)) == (3, 1, 1, 2)


def test_one_seed_that_was_stopped_marks_its_configuration():
    (one,) = configured([trained(settings={"seed": seed}, converged=seed != 2) for seed in (1, 2, 3)])
    assert not_converged(one)


def test_validation_is_that_of_the_cell_and_else_that_of_the_training():
    (one,) = configured([trained(settings={"seed": seed}, validation=seed / 10) for seed in (1, 2, 3)])
    assert validation(one) == pytest.approx(0.2)
    elastic = {"training": "elastic", "elastic_tokens": (0, 4)}
    (old,) = configured([trained(settings=elastic, validation=None, best_validation=0.3)])
    assert (validation(old), own_validation(old)) == (0.3, None)
