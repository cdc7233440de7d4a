"""A request without a recent item, and a catalogue that a compression does not know: refused before anything is computed."""

import pytest
import torch
from small_models import CASES, CATEGORIES, ITEMS, WIDTH, build

from persrec.compression.category import Category
from persrec.recommender import SequentialRecommender

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("case", ["pooling", "strided", "category", "retrieval", "random"])
@torch.no_grad()
def test_a_history_that_vectors_stand_for_answers_no_request_without_a_recent_item(case):
    model = build("sasrec", CASES[case]())
    items = torch.arange(1, 14).repeat(3, 1)
    items[1, 9:] = 0
    with pytest.raises(ValueError, match=r"^items: no recent item in row 1; expected at least one in each row with a history that vectors"):
        model.score(items)
    items[1] = 0  # a row of padding alone is nobody's
    assert model.score(items).shape == (3, ITEMS)


@torch.no_grad()
def test_a_compression_and_an_encoder_know_the_same_items():
    model = build("sasrec", CASES["category"]())
    short = Category(history=9, recent=4, tokens=3, categories=CATEGORIES[:10])
    with pytest.raises(ValueError, match=rf"^compression: of a catalogue of 10 items; expected {ITEMS}, as the item encoder$"):
        SequentialRecommender(items=model.items, backbone=model.backbone, compression=short)
    texts = build("hllm", CASES["category"]())
    with pytest.raises(ValueError, match=rf"^items: ids from 1 to {ITEMS}; expected 0 to {ITEMS - 1}$"):
        texts.score(torch.tensor([[*range(1, 13), ITEMS]]), item_features=torch.randn(ITEMS + 1, WIDTH))
