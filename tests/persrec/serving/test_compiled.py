"""Requests by one compiled graph give what the model gives; most tests make the graph and run it operation by operation."""

import shutil

import pytest
import torch
from small_models import BACKBONES_TIMED, CACHED, CASES, ITEMS, TOLERANCE, build

from persrec.items import TextEncoder
from persrec.serving import compiled
from persrec.serving.compiled import CompiledRequests

COMPILERS = ("c++", "g++", "clang++")
FEW = ("full", "3 segments", "memory of 3 segments", "pooling", "shown empty experts")


def drawn(users, width, *, timed, seed=0):
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, ITEMS, (users, width), generator=generator)
    return items, torch.randint(1, 10_000, (users, width), generator=generator).cumsum(1) if timed else None


def asked(backbone, case, *, timed, users=2, counts="none"):
    """A model, the cache of a history that is shorter than its layout, recent items, their times and the request's."""
    model = build(backbone, CASES[case](), counts=counts)
    items, times = drawn(users, model.layout.window, timed=timed)
    items[0, :2] = 0
    history = model.layout.history
    with torch.no_grad():
        cache = model.compress(items[:, :history], None if times is None else times[:, :history])
    request = items[:, history:], None if times is None else times[:, history:], None if times is None else times[:, -1] + 60
    features = model.items.vectors().detach() if isinstance(model.items, TextEncoder) else None
    return model, cache, request, features


def agree(model, cache, request, features, *, backend):
    """Requests of all recent items, of fewer, and of one, from the cache as it is and from one with room."""
    recent, times, query = request
    served = CompiledRequests(model, backend=backend)
    for width in (recent.shape[1], 2, 1):
        some = recent[:, :width], None if times is None else times[:, :width], query
        with torch.no_grad():
            wanted = model.user_states(*some, cache=cache, item_features=features)
            for kept in (cache, model.with_room(cache)):
                torch.testing.assert_close(served.user_states(*some, cache=kept, item_features=features), wanted, **TOLERANCE)


def counting(model):
    """Requests whose graphs are run operation by operation, and the list that holds these as they are made."""
    graphs = []

    def run(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return CompiledRequests(model, backend=run), graphs


@pytest.mark.parametrize(("backbone", "timed"), BACKBONES_TIMED)
@pytest.mark.parametrize("case", FEW)
def test_the_whole_request_is_one_graph_and_gives_the_models_states(backbone, case, timed):
    agree(*asked(backbone, case, timed=timed), backend="eager")


@pytest.mark.parametrize("case", [case for case in CACHED if case not in FEW])
def test_so_it_does_from_whatever_is_kept(case):
    agree(*asked("hstu", case, timed=True), backend="eager")


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason=f"torch.compile needs a C++ compiler: {', '.join(COMPILERS)}")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by the compiler's own imports
def test_compiled_it_gives_them_too():
    agree(*asked("hstu", "3 segments", timed=True), backend="inductor")


def test_requests_of_fewer_recent_items_make_no_other_graph():
    model, cache, (recent, *_), _ = asked("sasrec", "1 expert", timed=False)
    served, graphs = counting(model)
    for width in range(1, recent.shape[1] + 1):
        served.user_states(recent[:, :width], cache=cache)
    assert len(graphs) == 1


def test_kinds_beyond_the_most_are_answered_by_the_model(monkeypatch):
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 2)
    model, cache, (recent, *_), _ = asked("sasrec", "1 expert", timed=False, users=4)
    served, graphs = counting(model)
    with torch.no_grad():
        for users in (1, 2, 3, 4, 1, 2):
            own = cache.of_users(torch.arange(users))
            wanted = model.user_states(recent[:users], cache=own)
            torch.testing.assert_close(served.user_states(recent[:users], cache=own), wanted, **TOLERANCE)
    assert len(graphs) == 2


def test_room_is_a_kind_of_its_own_and_no_more():
    model, cache, (recent, times, query), _ = asked("hstu", "1 expert", timed=True)
    served, graphs = counting(model)
    for _ in range(2):
        for kept in (cache, model.with_room(cache)):
            served.user_states(recent, times, query, cache=kept)
    assert len(graphs) == len(served._kinds) == 2


def test_counted_items_are_the_caches_business_and_make_no_other_graph():
    model, cache, (recent, *_), _ = asked("sasrec", "1 expert", timed=False, counts="all")
    served = CompiledRequests(model, backend="eager")
    with torch.no_grad():
        users = served.user_states(recent, cache=cache)
        torch.testing.assert_close(users, model.user_states(recent, cache=cache), **TOLERANCE)
        assert model.repeats(users, recent, cache=cache)[0].shape[1] > recent.shape[1]


def test_new_weights_are_read_and_the_models_kernel_stays():
    model, cache, (recent, *_), _ = asked("hstu", "1 expert", timed=False)
    served = CompiledRequests(model, backend="eager")
    before = served.user_states(recent, cache=cache)
    with torch.no_grad():
        model.items.vectors().mul_(-1)
        after = served.user_states(recent, cache=cache)
        torch.testing.assert_close(after, model.user_states(recent, cache=cache), **TOLERANCE)
    assert not torch.allclose(before, after, **TOLERANCE)
    assert model.backbone.kernel == "segmented"


def test_what_the_model_refuses_is_refused():
    model, cache, (recent, *_), _ = asked("sasrec", "1 expert", timed=False)
    served = CompiledRequests(model, backend="eager")
    with pytest.raises(ValueError, match=f"items: ids from 0 to {ITEMS}; expected"):
        served.user_states(recent * 0 + torch.tensor([0, 1, 2, ITEMS]), cache=cache)
    with pytest.raises(ValueError, match="items: no recent item in row 0"):
        served.user_states(torch.zeros_like(recent), cache=cache)
    with pytest.raises(ValueError, match="items: 5 recent items with a cache; expected at most 4"):
        served.user_states(torch.ones(2, 5, dtype=torch.int64), cache=cache)


def test_a_model_that_cannot_be_served_by_a_graph_is_refused():
    with pytest.raises(ValueError, match="model: in training mode"):
        CompiledRequests(build("sasrec", CASES["1 expert"]()).train())
    with pytest.raises(ValueError, match="model: Retrieval keeps nothing of a history"):
        CompiledRequests(build("sasrec", CASES["retrieval"]()))
    model, cache, (recent, *_), _ = asked("hllm", "1 expert", timed=False)
    with pytest.raises(ValueError, match="item_features: missing"):
        CompiledRequests(model, backend="eager").user_states(recent, cache=cache)
