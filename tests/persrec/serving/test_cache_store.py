"""The store gives back what was put, joins users exactly, forgets the least recently used, and keeps to its bytes."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from small_models import BACKBONE_NAMES, CASES, TOLERANCE, build, elastic, experts, random_windows

from persrec.files import WriteError
from persrec.layout import layout_id
from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import empty_cache
from persrec.serving import CacheStore

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = "3 segments"


@pytest.fixture(scope="module")
def model():
    return build("hstu", CASES[PLAN]())


@pytest.fixture(scope="module")
def caches(model):
    """Caches of four users, one segment to three."""
    return {offset: compressed(model, offset) for offset in model.layout.offsets}


@torch.no_grad()
def compressed(model, offset, *, timed=True, seed=0):
    items, times, _ = random_windows(model.layout, seed=seed, holes=False)
    return model.compress(items[:, :offset], times[:, :offset] if timed else None)


def row(cache, index):
    return cache.of_users(torch.tensor([index]))


def assert_equal_caches(found, expected, *, exact=True):
    assert (found.segments, found.layout) == (expected.segments, expected.layout)
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.valid, expected.valid)
    assert (found.times is None) == (expected.times is None)
    assert found.times is None or torch.equal(found.times, expected.times)
    assert len(found.layers) == len(expected.layers)
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            assert not exact or torch.equal(one, other)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("case", ["3 segments", "unequal plan", "full in 2 segments", "pooling", "no expert"])
@torch.no_grad()
def test_what_is_put_is_got_bit_for_bit(backbone, case):
    model = build(backbone, CASES[case]())
    for timed in (True, False):
        cache = compressed(model, model.layout.history, timed=timed)
        store = CacheStore(layout=model.layout)
        assert store.put_each("abcd", cache) == ()
        assert_equal_caches(store.get("abcd"), cache)
        assert_equal_caches(store.get(["c"]), row(cache, 2))
        for name, index in (("a", 0), ("d", 3)):
            store.put(name, row(cache, index))
        assert_equal_caches(store.get("abcd"), cache)


@torch.no_grad()
def test_a_model_in_bfloat16_gets_its_own_numbers_back(model):
    cache = compressed(build("sasrec", CASES[PLAN]()).to(torch.bfloat16), 6)
    for dtype in ("float32", "bfloat16"):
        store = CacheStore(layout=model.layout, dtype=dtype)
        store.put_each(range(4), cache)
        assert_equal_caches(store.get(range(4)), cache)
    assert len({tensor.dtype for pair in store.get([0]).layers for tensor in pair}) == 1


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("case", ["3 segments", "unequal plan", "a segment without experts", "full in 2 segments", "elastic"])
@torch.no_grad()
def test_a_batch_of_histories_of_any_length_scores_as_each_user_alone(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=3, holes=False)
    offsets = [*model.layout.offsets, *model.layout.offsets][:4]
    store = CacheStore(layout=model.layout)
    alone = []
    recent, recent_times = items[:, -3:], times[:, -3:]
    for user, offset in enumerate(offsets):
        one = slice(user, user + 1)
        cache = model.compress(items[one, :offset], times[one, :offset])
        store.put(user, cache)
        alone.append(model.score(recent[one], recent_times[one], query_time[one], cache=cache))
    order = [2, 0, 3, 1, 0]
    together = model.score(recent[order], recent_times[order], query_time[order], cache=store.get(order))
    torch.testing.assert_close(together, torch.cat(alone)[order], **TOLERANCE)
    assert len(set(offsets)) > 1


@torch.no_grad()
def test_a_user_without_any_history_is_served_beside_others(model, caches):
    store = CacheStore(layout=model.layout)
    store.put("old", row(caches[9], 0))
    store.put("new", empty_cache(users=1, layout=layout_id(model.layout), timed=True, device=torch.device("cpu")))
    recent = torch.tensor([[3, 4]])
    times = torch.tensor([[1_700_000_000, 1_700_000_060]])
    together = model.score(recent.expand(2, 2), times.expand(2, 2), cache=store.get(["old", "new"]))
    torch.testing.assert_close(together[:1], model.score(recent, times, cache=row(caches[9], 0)), **TOLERANCE)
    window = torch.zeros(1, model.layout.window, dtype=torch.int64)
    window[:, 9:11] = recent
    seconds = torch.zeros_like(window)
    seconds[:, 9:11] = times
    torch.testing.assert_close(together[1:], model.score(window, seconds), **TOLERANCE)


@torch.no_grad()
def test_nobody_is_a_batch_of_nobody(model):
    assert CacheStore(layout=model.layout).get([]).valid.shape == (0, 0)


@torch.no_grad()
def test_shown_empty_experts_are_not_padded_away():
    model = build("hstu", CASES["shown empty experts"]())
    store = CacheStore(layout=model.layout)
    store.put("short", row(compressed(model, 4), 0))
    store.put("long", row(compressed(model, 9), 1))
    with pytest.raises(ValueError, match=r"^users: their caches hold \[1, 2\] segments, .*expected as many segments of each$"):
        store.get(["short", "long"])
    padding = torch.zeros(1, 5, dtype=torch.int64)
    store.put("short", model.extend(store.get(["short"]), padding, padding))
    assert store.get(["short", "long"]).segments == 2


# bytes and order of use


@torch.no_grad()
def test_bytes_are_those_of_every_tensor_kept(model, caches):
    cache = row(caches[9], 0)
    numbers, vectors, positions = 6 * 2 * 2 * 8, 6 * 2 * 2 * 2, 6  # 6 tokens, 2 layers, keys and values, width 8 in 2 heads
    beside = positions * (1 + 8)  # valid, times
    for dtype, size in (("float32", 4 * numbers), ("bfloat16", 2 * numbers), ("int8", numbers + 4 * vectors)):
        store = CacheStore(layout=model.layout, dtype=dtype)
        store.put("u", cache)
        assert store.nbytes == size + beside
        store.put("u", cache)  # in the stead of the first
        assert (store.nbytes, len(store)) == (size + beside, 1)
        store.remove("u")
        assert (store.nbytes, len(store)) == (0, 0)


@pytest.mark.parametrize("dtype", CACHE_PRECISIONS)
@given(steps=st.lists(st.tuples(st.sampled_from(["put", "get", "evict", "remove"]), st.integers(0, 5), st.integers(1, 3)), max_size=25))
def test_the_least_recently_used_go_first_and_the_budget_is_never_exceeded(model, caches, dtype, steps):
    """Against a plain list that is kept in order of use."""
    size = {segments: each_size(model, caches, dtype, segments) for segments in (1, 2, 3)}
    budget = int(2.5 * size[3])
    store = CacheStore(layout=model.layout, dtype=dtype, budget_bytes=budget)
    order: list[tuple[int, int]] = []  # user, segments

    def kept_within(limit):
        gone = []
        while sum(size[segments] for _, segments in order) > limit:
            gone.append(order.pop(0)[0])
        return tuple(gone)

    for step, user, segments in steps:
        known = [one for one, _ in order]
        if step == "put":
            order = [pair for pair in order if pair[0] != user]
            gone = kept_within(budget - size[segments])
            order.append((user, segments))
            assert store.put(user, row(caches[3 * segments], user % 4)) == gone
        elif step == "get" and user in known:
            store.get([user])
            order.append(order.pop(known.index(user)))
        elif step == "evict":
            assert store.evict(segments * size[1]) == kept_within(segments * size[1])
        elif step == "remove" and user in known:
            store.remove(user)
            order.pop(known.index(user))
        assert store.users == tuple(one for one, _ in order)
        assert store.nbytes == sum(size[segments] for _, segments in order) <= budget


def each_size(model, caches, dtype, segments):
    store = CacheStore(layout=model.layout, dtype=dtype)
    store.put(0, row(caches[3 * segments], 0))
    return store.nbytes


@torch.no_grad()
def test_a_cache_above_the_whole_budget_is_refused_and_nobody_is_evicted(model, caches):
    small = each_size(model, caches, "float32", 1)
    store = CacheStore(layout=model.layout, budget_bytes=small)
    store.put("small", row(caches[3], 0))
    with pytest.raises(ValueError, match=rf"^cache: \d+ bytes of user 'large'; expected at most the budget, {small}$"):
        store.put("large", row(caches[9], 0))
    assert store.users == ("small",)


# refusals


@torch.no_grad()
def test_what_does_not_fit_is_refused_and_the_store_stays_as_it_was(model, caches):
    store = CacheStore(layout=model.layout)
    store.put("u", row(caches[6], 0))
    others = build("hstu", experts([(9, 1)], window=13))
    narrow = build("sasrec", CASES[PLAN](), layers=1)
    spoilt = row(caches[6], 1)
    spoilt.layers[0][0][0, 0, 0, 0] = torch.nan
    refused = [
        (r"^cache: of layout \w+; expected \w+, the store's$", "v", row(compressed(others, 9), 0)),
        (r"^cache: without times; expected it with, as the others$", "v", row(compressed(model, 6, timed=False), 0)),
        (r"^cache: of CacheForm.*; expected CacheForm.*, as the others$", "v", row(compressed(narrow, 6), 0)),
        (r"^cache: holds NaN or infinity; expected finite keys and values$", "v", spoilt),
        (r"^users: 1, 1 of them different, for a cache of 4; expected one each$", "v", caches[6]),
        (r"^users: True is bool; expected int or str$", True, row(caches[6], 1)),
        (r"^users: None is NoneType; expected int or str$", None, row(caches[6], 1)),
        (r"^users: 1.5 is float; expected int or str$", 1.5, row(caches[6], 1)),
    ]
    for message, user, cache in refused:
        with pytest.raises(ValueError, match=message):
            store.put(user, cache)
    with pytest.raises(ValueError, match=r"^users: 4, 3 of them different, for a cache of 4; expected one each$"):
        store.put_each("vwvx", caches[6])
    with pytest.raises(ValueError, match=r"^users: 'v' is not in the store of 1 users$"):
        store.get(["u", "v"])
    with pytest.raises(ValueError, match=r"^user: 'v' is not in the store of 1 users$"):
        store.remove("v")
    assert store.users == ("u",)
    assert_equal_caches(store.get(["u"]), row(caches[6], 0))


def test_settings_that_do_not_hold_up(model):
    with pytest.raises(ValueError, match=r"^dtype: unknown 'int4'; known: float32, bfloat16, int8$"):
        CacheStore(layout=model.layout, dtype="int4")
    for call in (lambda: CacheStore(layout=model.layout, budget_bytes=-1), lambda: CacheStore(layout=model.layout).evict(-1)):
        with pytest.raises(ValueError, match=r"^budget_bytes: -1; expected 0 or more$"):
            call()


def test_numbers_of_a_data_frame_name_the_same_user(model, caches):
    store = CacheStore(layout=model.layout)
    store.put(np.int64(7), row(caches[3], 0))
    assert 7 in store
    assert "7" not in store
    assert store.get([7]).segments == 1


@pytest.mark.parametrize("dtype", CACHE_PRECISIONS)
@pytest.mark.parametrize("users", ["a", "bd", "da"])
@torch.no_grad()
def test_a_cache_is_got_with_room_and_serves_as_without(model, caches, dtype, users):
    """Of users of as many segments, and of other than as many; what is in the store stays as it was."""
    store = CacheStore(layout=model.layout, dtype=dtype)
    for user, offset in zip("abcd", (*caches, model.layout.history), strict=True):
        store.put(user, row(caches[offset], 1))
    items, times, now = random_windows(model.layout, holes=False)
    recent, since, now = items[: len(users), model.layout.history :], times[: len(users), model.layout.history :], now[: len(users)]
    plain, roomy = store.get(users), store.get(users, room=model.layout.recent)
    assert_equal_caches(roomy, plain)
    expected = model.user_states(recent, since, now, cache=plain)
    for _ in range(2):
        assert torch.equal(model.user_states(recent, since, now, cache=roomy), expected)
    for (keys, values), layer in zip(roomy.rooms, roomy.layers, strict=True):
        assert [room.shape[2] for room in (keys, values)] == [roomy.length + model.layout.recent] * 2
        assert [kept.data_ptr() for kept in layer] == [keys.data_ptr(), values.data_ptr()]
    for keys, values in roomy.rooms:
        keys.fill_(9.0)
        values.fill_(9.0)
    assert_equal_caches(store.get(users), plain)
    with pytest.raises(ValueError, match=r"^room: -1; expected 0 or more$"):
        store.get(users, room=-1)


# on disk


@pytest.mark.parametrize("dtype", CACHE_PRECISIONS)
@pytest.mark.parametrize("timed", [True, False])
@torch.no_grad()
def test_a_store_that_was_saved_and_loaded_serves_alike(model, tmp_path, dtype, timed):
    store = CacheStore(layout=model.layout, dtype=dtype)
    store.put_each([1, "1", "ä", 2], compressed(model, 3, timed=timed))
    store.put_each([5, 1], compressed(model, 9, timed=timed, seed=1).of_users(torch.tensor([0, 1])))
    store.get(["ä"])
    path = tmp_path / "deep" / "caches.safetensors"
    store.save(path)
    loaded = CacheStore.load(path, layout=model.layout)
    assert loaded.users == store.users == ("1", 2, 5, 1, "ä")
    assert (loaded.nbytes, loaded.dtype) == (store.nbytes, dtype)
    assert_equal_caches(loaded.get(store.users), store.get(store.users))
    loaded.put(9, row(compressed(model, 6, timed=timed), 0))  # and goes on
    loaded.save(path)
    assert CacheStore.load(path, layout=model.layout).users == loaded.users
    assert [part.name for part in path.parent.iterdir()] == [path.name]


@torch.no_grad()
def test_stores_of_nothing_are_saved_too(tmp_path):
    model = build("hstu", CASES["no expert"]())
    store = CacheStore(layout=model.layout)
    store.save(tmp_path / "empty")
    assert len(CacheStore.load(tmp_path / "empty", layout=model.layout)) == 0
    store.put_each("abcd", compressed(model, 9))
    store.save(tmp_path / "hidden")
    loaded = CacheStore.load(tmp_path / "hidden", layout=model.layout)
    assert_equal_caches(loaded.get("abcd"), store.get("abcd"))


def test_a_smaller_budget_leaves_out_the_least_recently_used(model, caches, tmp_path):
    store = CacheStore(layout=model.layout)
    store.put_each("abcd", caches[3])
    store.save(tmp_path / "s")
    loaded = CacheStore.load(tmp_path / "s", layout=model.layout, budget_bytes=store.nbytes // 2)
    assert loaded.users == ("c", "d")
    assert loaded.nbytes == store.nbytes // 2


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_save_that_fails_leaves_the_old_file(kind, model, caches, tmp_path, monkeypatch):
    path = tmp_path / "s"
    store = CacheStore(layout=model.layout)
    store.put("a", row(caches[3], 0))
    store.save(path)
    store.put("b", row(caches[3], 1))

    def full_disk(*args, **kwargs):
        raise kind("no space left")

    monkeypatch.setattr("persrec.serving.store.save_file", full_disk)
    with pytest.raises(WriteError, match=rf"^{path}: cannot be written: no space left$"):
        store.save(path)
    assert CacheStore.load(path, layout=model.layout).users == ("a",)
    assert [part.name for part in tmp_path.iterdir()] == ["s"]


def test_a_file_that_is_no_store_of_this_layout_is_refused(model, caches, tmp_path):
    path = tmp_path / "s"
    with pytest.raises(ValueError, match=rf"^store: {path} cannot be read: "):
        CacheStore.load(path, layout=model.layout)
    path.write_bytes(b"\x80\x04]\x94.")  # a pickle
    with pytest.raises(ValueError, match=rf"^store: {path} cannot be read: "):
        CacheStore.load(path, layout=model.layout)
    save_file({"valid": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=rf"^store: {path} cannot be read: KeyError"):
        CacheStore.load(path, layout=model.layout)
    store = CacheStore(layout=model.layout, dtype="int8")
    store.put_each("abcd", caches[3])
    store.save(path)
    for other in (experts([(9, 1)], window=13).layout, elastic(use=4).layout):
        with pytest.raises(ValueError, match=rf"^store: {path} is of version 4 and layout '{layout_id(model.layout)}'; expected 4 and "):
            CacheStore.load(path, layout=other)
    with safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata()["store"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    spoilt = [
        (facts, tensors | {"values": tensors["values"][1:]}, "values"),
        (facts, tensors | {"scales": tensors["scales"].double()}, "scales"),
        (facts, {name: tensor for name, tensor in tensors.items() if name != "times"}, "times"),
        (facts, tensors | {"more": torch.zeros(1)}, "more"),
        (json.dumps(json.loads(facts) | {"dtype": "int4"}), tensors, "int4"),
        (json.dumps(json.loads(facts) | {"users": [["a", 9, 0]]}), tensors, "with 9 segments"),
        (json.dumps({name: value for name, value in json.loads(facts).items() if name != "users"}), tensors, "users"),
    ]
    save_file(tensors, path, metadata={"store": "[" * 100_000})
    with pytest.raises(ValueError, match=rf"^store: {path} cannot be read"):
        CacheStore.load(path, layout=model.layout)
    for changed, kept, named in spoilt:
        save_file(kept, path, metadata={"store": changed})
        with pytest.raises(ValueError, match=rf"^store: {path} does not hold up: .*{named}"):
            CacheStore.load(path, layout=model.layout)
