import dataclasses
import math

import pytest
from small_models import small_recipe

from persrec.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["epochs", "patience", "targets_per_step", "recent_weight_steps"])
def test_a_recipe_refuses_less_than_one(name):
    with pytest.raises(ValueError, match=f"^{name}: 0; expected at least 1$"):
        small_recipe(**{name: 0})


@pytest.mark.parametrize("name", ["learning_rate", "item_learning_rate", "expert_learning_rate", "temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_recipe_refuses_what_is_not_above_zero(name, value):
    with pytest.raises(ValueError, match=f"^{name}: .*; expected a finite number, more than 0$"):
        small_recipe(**{name: value})


@pytest.mark.parametrize("name", ["warmup_steps", "weight_decay", "recent_weight", "expert_weight", "distillation"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_recipe_refuses_what_is_negative_or_has_no_end(name, value):
    with pytest.raises(ValueError, match=f"^{name}: .*; expected a finite number, 0 or more$"):
        small_recipe(**{name: value})


def test_a_recipe_refuses_fewer_negatives_than_none():
    with pytest.raises(ValueError, match=r"^negatives: -1; expected 0, which is every item, or more$"):
        small_recipe(negatives=-1)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_recipe_refuses_a_seed_that_torch_does_not_take(seed):
    with pytest.raises(ValueError, match=f"^seed: {seed}; expected 0 to 9223372036854775807$"):
        small_recipe(seed=seed)


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_recipe().seed = 2
    assert isinstance(small_recipe(), Recipe)
