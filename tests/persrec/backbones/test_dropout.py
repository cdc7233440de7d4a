"""Every place where a backbone drops, which METHOD names, drops in training alone, and what is dropped there is missing behind it."""

import pytest
import torch
import torch.nn.functional as F

from persrec.backbones import BackboneSettings, build_backbone
from persrec.nn.cache import Chunk, empty_cache

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, LAYERS, LENGTH, RATE = 8, 2, 7, 0.25
SITES = {"hstu": 1 + LAYERS, "sasrec": 1 + 2 * LAYERS, "llama": 1 + 2 * LAYERS}  # of the input, and a layer's: HSTU's gated attention alone
OWN_DROPOUT = F.dropout


@pytest.fixture(params=SITES)
def backbone(request):
    sizes = BackboneSettings(width=WIDTH, layers=LAYERS, heads=2, length=LENGTH, dropout=RATE)
    built = build_backbone(request.param, sizes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(std=0.5, generator=generator)
    return request.param, built


def hidden(built):
    inputs = torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(2))
    chunk = Chunk(
        inputs=inputs,
        positions=torch.arange(LENGTH),
        valid=torch.ones(3, LENGTH, dtype=torch.bool),
        key_times=None,
        query_times=None,
        kept=0,
        items=LENGTH,
    )
    cache = empty_cache(users=3, layout="a", timed=False, device=torch.device("cpu"))
    with torch.no_grad():
        return built(chunk, cache)[0]


def test_it_drops_at_these_places_by_the_rate_in_training_alone(backbone, monkeypatch):
    name, built = backbone
    asked = []
    monkeypatch.setattr(F, "dropout", lambda x, p, training: asked.append((tuple(x.shape), p, training)) or x)
    for training in (True, False):
        asked.clear()
        hidden(built.train(training))
        assert asked == [((3, LENGTH, WIDTH), RATE, training)] * SITES[name]


def test_what_is_dropped_is_missing_behind_it(backbone, monkeypatch):
    name, built = backbone
    built.eval()
    whole, again = hidden(built), hidden(built)
    assert torch.equal(whole, again)
    for site in range(SITES[name]):
        places = iter(range(SITES[name]))
        monkeypatch.setattr(F, "dropout", lambda x, *_, dropped=site, places=places: x * (next(places) != dropped))
        assert not torch.allclose(hidden(built), whole, atol=1e-3), site
    monkeypatch.setattr(F, "dropout", OWN_DROPOUT)
    assert not torch.allclose(hidden(built.train()), whole, atol=1e-3)
