"""A sample of what ``thousand_plans.py`` does, and that it can fail."""

import pytest
import thousand_plans
from small_models import BACKBONE_NAMES

from persrec.recommender import SequentialRecommender

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_cached_is_joint_within_the_contract_on_random_plans(backbone):
    gap, _ = thousand_plans.largest_gap(backbone, 25)
    assert gap <= thousand_plans.TOLERANCE


def test_a_cache_that_is_off_by_a_little_is_found(monkeypatch):
    own = SequentialRecommender.score

    def off(self, *args, cache=None, **others):
        scores = own(self, *args, cache=cache, **others)
        return scores if cache is None else scores + 2e-5

    monkeypatch.setattr(SequentialRecommender, "score", off)
    gap, _ = thousand_plans.largest_gap("sasrec", 3)
    assert gap > thousand_plans.TOLERANCE


def test_a_request_that_appends_a_little_beside_the_joint_pass_is_found(monkeypatch):
    own = SequentialRecommender.append

    def off(self, *args, **others):
        state, cache = own(self, *args, **others)
        return state + 1e-3, cache

    monkeypatch.setattr(SequentialRecommender, "append", off)
    gap, _ = thousand_plans.largest_gap("hstu", 3)
    assert gap > thousand_plans.TOLERANCE
