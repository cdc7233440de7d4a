"""A catalogue that a compression does not know is refused before anything is computed."""

import pytest
import torch
from small_models import CASES, CATEGORIES, ITEMS, WIDTH, build

from persrec.compression.category import Category
from persrec.recommender import SequentialRecommender

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.no_grad()
def test_a_compression_and_an_encoder_know_the_same_items():
    model = build("sasrec", CASES["category"]())
    short = Category(history=9, recent=4, tokens=3, categories=CATEGORIES[:10])
    with pytest.raises(ValueError, match=rf"^compression: of a catalogue of 10 items; expected {ITEMS}, as the item encoder$"):
        SequentialRecommender(items=model.items, backbone=model.backbone, compression=short)
    texts = build("hllm", CASES["category"]())
    with pytest.raises(ValueError, match=rf"^items: ids from 1 to {ITEMS}; expected 0 to {ITEMS - 1}$"):
        texts.score(torch.tensor([[*range(1, 13), ITEMS]]), item_features=torch.randn(ITEMS + 1, WIDTH))
