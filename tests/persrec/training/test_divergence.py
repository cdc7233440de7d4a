import math

import pytest
import torch
from small_models import build, small_recipe, small_split

from persrec.compression.recent import Recent
from persrec.training import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_training_that_does_not_diverge_says_so():
    model = build("hstu", Recent(recent=6), lively=False)
    assert Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 0.5).run().diverged_at is None


@pytest.mark.parametrize(
    ("spoil", "figure", "says"),
    [
        (True, 0.5, "training: diverged in epoch 1, the loss is nan"),
        (False, math.nan, "training: diverged in epoch 1, the validation figure is nan"),
    ],
)
def test_a_training_that_diverges_at_once_is_an_error_that_says_so(spoil, figure, says):
    model = build("hstu", Recent(recent=6), lively=False)
    if spoil:
        with torch.no_grad():
            next(model.backbone.parameters()).fill_(math.nan)
    trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(patience=2, epochs=4), validate=lambda: figure)
    with pytest.raises(FloatingPointError, match=f"^{says}$"):
        trainer.run()


def test_weights_that_a_last_step_spoils_are_named():
    model = build("hstu", Recent(recent=6), lively=False)
    trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: pytest.fail("not asked"))

    def spoiling(batch):
        with torch.no_grad():
            model.backbone.positions.weight.fill_(math.inf)
        return torch.zeros(())

    trainer.step = spoiling
    with pytest.raises(FloatingPointError, match=r"^training: diverged in epoch 1, backbone.positions.weight holds numbers"):
        trainer.run()


def test_nobody_to_evaluate_is_bad_input_before_training():
    model = build("hstu", Recent(recent=6), lively=False)
    trainer = Trainer(model=model, data=small_split(shortest=2, longest=2), recipe=small_recipe(), validate=lambda: pytest.fail("trained"))
    trainer.step = lambda batch: pytest.fail("trained")
    with pytest.raises(ValueError, match="^data: no user has the 3 events that leave-one-out needs, .*; the longest of 12 users has 2$"):
        trainer.run()
