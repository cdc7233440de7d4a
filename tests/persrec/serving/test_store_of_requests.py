"""The store takes what `append` keeps between two refreshes, and a memory's states, and gives both back as they were."""

import dataclasses
import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_models import BACKBONE_NAMES, CASES, TOLERANCE, build, random_windows

from persrec.layout import layout_id
from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import empty_cache
from persrec.serving import CacheStore, pack

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = ["3 segments", "unequal plan", "full in 2 segments", "pooling", "no expert"]
MEMORIES = ["memory", "memory of 3 segments"]


def windows(model, *, timed=True, seed=0):
    items, times, query_time = random_windows(model.layout, seed=seed, holes=False)
    return (items, times, query_time) if timed else (items, None, None)


def part(tensor, columns):
    return None if tensor is None else tensor[:, columns]


def appended(model, items, times, *, offset, count):
    """The cache of a history up to an offset, with some recent items appended."""
    cache, recent = model.compress(items[:, :offset], part(times, slice(0, offset))), model.layout.history
    columns = slice(recent, recent + count)
    return model.append(items[:, columns], part(times, columns), cache=cache)[1] if count else cache


def assert_equal(found, expected):
    assert (found.segments, found.layout, found.recent, found.backbone) == tuple(
        getattr(expected, name) for name in ("segments", "layout", "recent", "backbone")
    )
    for name in ("positions", "valid", "times", "states", "items"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or torch.equal(ours, theirs), name
    of_positions = expected.tensors if len(expected.positions) else ()  # keys of no position are not kept
    for ours, theirs in zip(found.tensors, of_positions, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("case", KEYS)
@pytest.mark.parametrize("timed", [False, True])
@torch.no_grad()
def test_a_chain_of_appends_goes_on_from_the_store_as_without_it(backbone, case, timed):
    """Each request fetches what the one before it put, with room and without, and answers as a request of all its items."""
    model = build(backbone, CASES[case]())
    items, times, query_time = windows(model, timed=timed)
    history, store = model.layout.history, CacheStore(layout=model.layout)
    store.put_each("abcd", model.compress(items[:, :history], part(times, slice(0, history))))
    for width in range(1, model.layout.recent + 1):
        for room in (0, model.layout.recent - store.get("a").recent):
            cache = store.get("abcd", room=room)
            columns = slice(history + cache.recent, history + width)
            given = items[:, columns], part(times, columns), query_time
            states, kept = model.append(*given, cache=cache)
            recent = slice(history, history + width)
            whole = model.compress(items[:, :history], part(times, slice(0, history)))
            expected = model.user_states(items[:, recent], part(times, recent), query_time, cache=whole)
            torch.testing.assert_close(states, expected, **TOLERANCE)
        assert store.put_each("abcd", kept) == ()
        assert_equal(store.get("abcd"), dataclasses.replace(kept, rooms=()))
        assert_equal(store.get("c"), kept.of_users(torch.tensor([2])))
        assert store.nbytes == sum(store.get(user).nbytes_per_user + facts_bytes(store.get(user)) for user in "abcd")


def facts_bytes(cache):
    """Of one user: which positions are valid, and their times."""
    return cache.valid.numel() + (0 if cache.times is None else 8 * cache.times.numel())


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_histories_of_any_length_with_recent_items_are_served_together(backbone):
    model = build(backbone, CASES["unequal plan"]())
    items, times, query_time = windows(model, seed=3)
    store, alone = CacheStore(layout=model.layout), []
    offsets, new = [*model.layout.offsets, model.layout.offsets[0]], slice(model.layout.history + 2, model.layout.history + 3)
    for user, offset in enumerate(offsets):
        one = slice(user, user + 1)
        store.put(user, appended(model, items[one], None, offset=offset, count=2))
        alone.append(model.append(items[one, new], None, None, cache=store.get([user]))[0])
    order = [2, 0, 3, 1, 0]
    together, _ = model.append(items[order, new], None, None, cache=store.get(order))
    torch.testing.assert_close(together, torch.cat(alone)[order], **TOLERANCE)
    assert len(set(offsets)) > 1
    store.put(9, appended(model, items[:1], None, offset=offsets[0], count=1))
    with pytest.raises(ValueError, match=r"^users: their caches hold \[1, 2\] recent items; expected as many of each$"):
        store.get([0, 9])


@pytest.mark.parametrize("counts", ["recent", "all"])
@torch.no_grad()
def test_counted_ids_of_recent_items_are_kept_behind_those_of_the_history(counts, tmp_path):
    """A store may hold users with recent items beside users without: the ids of a history, or of recent items, are not missing there."""
    model = build("sasrec", CASES["3 segments"](), counts=counts)
    items, _, _ = windows(model, timed=False)
    first, last = model.layout.offsets[0], model.layout.history
    store = CacheStore(layout=model.layout)
    store.put_each("ab", appended(model, items[:2], None, offset=first, count=0))
    store.put_each("cd", appended(model, items[2:], None, offset=last, count=3))
    store.put("e", appended(model, items[:1], None, offset=first, count=3))
    path = tmp_path / "store.safetensors"
    store.save(path)
    for one in (store, CacheStore.load(path, layout=model.layout)):
        history, recent = items[2:, :last], items[2:, last : last + 3]
        expected = torch.cat([history, recent], dim=1) if counts == "all" else recent
        assert torch.equal(one.get("cd").items, expected.int())
        shorter = torch.cat([items[:1, :first], torch.zeros(1, last - first), items[:1, last : last + 3]], dim=1)
        joined = one.get("ec").items
        assert torch.equal(joined[0], shorter[0].int() if counts == "all" else items[0, last : last + 3].int())
        assert torch.equal(joined[1], expected[0].int())
        assert (one.get("ab").items is None) == (counts == "recent")


@pytest.mark.parametrize("dtype", CACHE_PRECISIONS)
@pytest.mark.parametrize("case", MEMORIES)
@torch.no_grad()
def test_a_memory_is_got_as_it_was_put(case, dtype, tmp_path):
    """Bit for bit in float32, and by half a step of the largest number of a state in int8; saved and loaded, too."""
    model = build("hstu", CASES[case]())
    items, times, query_time = windows(model)
    cache = model.compress(items[:, : model.layout.history], times[:, : model.layout.history])
    store, path = CacheStore(layout=model.layout, dtype=dtype), tmp_path / "store.safetensors"
    store.put_each("abcd", cache)
    store.save(path)
    for one in (store, CacheStore.load(path, layout=model.layout)):
        found = one.get("abcd", room=model.layout.recent)
        assert found.rooms == ()
        step = {"float32": 0.0, "bfloat16": 2**-8, "int8": 1 / 254}[dtype]
        assert bool(((found.states - cache.states).abs() <= step * cache.states.abs().amax(2, keepdim=True) * (1 + 1e-6)).all())
        if dtype == "float32":
            assert_equal(found, cache)
            recent = slice(model.layout.history, None)
            expected = model.user_states(items[:, recent], times[:, recent], query_time, cache=cache)
            assert torch.equal(model.user_states(items[:, recent], times[:, recent], query_time, cache=found), expected)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_memories_of_histories_of_any_length_are_served_together(backbone):
    model = build(backbone, CASES["memory of 3 segments"]())
    items, times, query_time = windows(model, seed=3)
    store, alone, recent = CacheStore(layout=model.layout), [], slice(model.layout.history, None)
    offsets = [*model.layout.offsets, model.layout.offsets[0]]
    for user, offset in enumerate(offsets):
        one = slice(user, user + 1)
        cache = model.compress(items[one, :offset], times[one, :offset])
        store.put(user, cache)
        alone.append(model.user_states(items[one, recent], times[one, recent], query_time[one], cache=cache))
    order = [2, 0, 3, 1]
    together = model.user_states(items[order, recent], times[order, recent], query_time[order], cache=store.get(order))
    torch.testing.assert_close(together, torch.cat(alone)[order], **TOLERANCE)


def nothing_yet(model, users, *, timed):
    """The caches of users without a history."""
    device = torch.device("cpu")
    return empty_cache(users=users, layout=layout_id(model.layout), timed=timed, device=device, backbone=type(model.backbone).__name__)


@pytest.mark.parametrize("backbone", ["hstu", "sasrec"])
@pytest.mark.parametrize("offset", [0, 9])
@torch.no_grad()
def test_a_memory_with_recent_items_is_refused(backbone, offset):
    """Also one without a history, whose states are not there, and one whose first append keeps no item yet."""
    model = build(backbone, CASES["memory"]())
    items, times, _ = windows(model)
    cache = model.compress(items[:, :offset], times[:, :offset]) if offset else nothing_yet(model, 4, timed=True)
    for count in (1, 2):
        recent = slice(model.layout.history, model.layout.history + count)
        kept = model.append(items[:, recent], times[:, recent], cache=cache)[1]
        with pytest.raises(ValueError, match=r"^cache: of a memory, with keys of a request's items or room"):
            CacheStore(layout=model.layout).put_each("abcd", kept)
        if offset:
            with pytest.raises(ValueError, match=r"^cache: of a memory, with keys of a request's items or room"):
                pack(kept, "float32")


@pytest.mark.parametrize("case", ["3 segments", "memory of 3 segments"])
@pytest.mark.parametrize("counts", ["none", "recent", "all"])
@torch.no_grad()
def test_new_users_are_served_alone_and_beside_others(case, counts, tmp_path):
    model = build("hstu", CASES[case](), counts=counts)
    items, _, _ = windows(model, timed=False)
    history, recent = items[:, : model.layout.history], items[:, model.layout.history :]
    store, path = CacheStore(layout=model.layout), tmp_path / "store.safetensors"
    store.put_each("ab", nothing_yet(model, 2, timed=False))
    padding = torch.zeros_like(history[:2])
    expected = model.score(torch.cat([padding, recent[:2]], dim=1))
    store.save(path)
    for one in (store, CacheStore.load(path, layout=model.layout)):
        torch.testing.assert_close(model.score(recent[:2], cache=one.get("ab")), expected, **TOLERANCE)
        one.put_each("cd", model.compress(history[2:]))
        together = model.score(recent[[0, 2, 3]], cache=one.get("acd"))
        torch.testing.assert_close(together[1:], model.score(items[2:]), **TOLERANCE)
        torch.testing.assert_close(together[:1], expected[:1], **TOLERANCE)


WHOLE = [["a", 3, 2], ["b", 3, 2], ["c", 3, 2], ["d", 3, 2]]  # of 32 positions and 44 ids: sums that fit are not caught by them
SPOILT = [
    ("form", {"tensors": -4, "heads": -2}, "form: 'float32' of sizes"),
    ("form", {"tensors": 8, "heads": True}, "form: 'float32' of sizes"),
    ("form", {"tensors": 4.0}, "form: 'float32' of sizes"),
    ("form", {"tensors": 1, "heads": 8}, "form: 1 tensors of 8 heads"),
    ("form", {"dtype": "float16"}, "form: 'float16' of sizes"),
    ("form", {"backbone": 7}, "form: backbone 7"),
    ("form", {"states": "no"}, "form: backbone 'SASRec', states 'no'"),
    ("form", {"tensors": 1, "heads": 1, "head_width": 32, "states": True}, "form: states of a layout"),
    ("form", {"width": 1}, "TypeError"),
    ("form", 3, "TypeError"),
    ("form", None, "form: nothing"),
    ("timed", 0, "timed, counts_history, counts_recent"),
    ("timed", None, "timed: nothing"),
    ("counts_history", 1, "timed, counts_history, counts_recent"),
    ("counts_history", None, "counts_history: nothing"),
    ("counts_recent", False, "counts_recent: false where the history is counted"),
    ("counts_recent", None, "counts_recent: nothing"),
    ("users", [["a", 3, 2], ["b", 3, 2], ["a", 3, 2], ["d", 3, 2]], "users: some stand twice"),
    ("users", [["a", 3, 8], ["b", 3, 0], ["c", 3, 0], ["d", 3, 0]], "users: 'a' with 8 recent items; expected 0 to 4"),
    ("users", [["a", 3, True], *WHOLE[1:]], "users: 'a' with True recent items"),
    ("users", [["a", -1, 2], *WHOLE[1:]], "users: 'a' with -1 segments; expected 0 to 3"),
    ("users", [["a", 1.9, 2], *WHOLE[1:]], "users: 'a' with 1.9 segments"),
    ("users", [["a", float("inf"), 2], *WHOLE[1:]], "users: 'a' with inf segments"),
    ("users", [["a", 3]], "ValueError"),
    ("users", 3, "TypeError"),
]


@pytest.mark.parametrize(("name", "value", "message"), SPOILT, ids=[f"{name}: {value}" for name, value, _ in SPOILT])
@torch.no_grad()
def test_a_file_that_says_what_cannot_be_is_refused(name, value, message, tmp_path):
    model, path = build("sasrec", CASES["3 segments"](), counts="all"), tmp_path / "store"
    items, _, _ = windows(model, timed=False)
    store = CacheStore(layout=model.layout, dtype="int8")
    store.put_each("abcd", appended(model, items, None, offset=model.layout.history, count=2))
    store.save(path)
    with safe_open(path, framework="pt") as file:
        facts, tensors = json.loads(file.metadata()["store"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert (len(tensors["valid"]), len(tensors["items"]), facts["users"]) == (32, 44, WHOLE)
    facts[name] = facts[name] | value if isinstance(value, dict) else value
    if name in ("form", "timed", "counts_history", "counts_recent") and value is None:  # what nothing is said of is not there
        gone = {"form": {"values", "scales"}, "timed": {"times"}}.get(name, set())
        tensors = {key: tensor for key, tensor in tensors.items() if key not in gone}
    save_file(tensors, path, metadata={"store": json.dumps(facts)})
    with pytest.raises(ValueError, match=rf"^store: {path} does not hold up: .*{re.escape(message)}"):
        CacheStore.load(path, layout=model.layout, budget_bytes=10)


@torch.no_grad()
def test_a_memory_with_recent_items_is_refused_in_a_file_too(tmp_path):
    model, path = build("sasrec", CASES["memory"]()), tmp_path / "store"
    items, _, _ = windows(model, timed=False)
    store = CacheStore(layout=model.layout)
    store.put_each("abcd", model.compress(items[:, : model.layout.history]))
    store.save(path)
    with safe_open(path, framework="pt") as file:
        facts, tensors = json.loads(file.metadata()["store"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    facts["users"], facts["counts_recent"] = [["a", 1, 2], ["b", 1, 0], ["c", 1, 0], ["d", 0, 0]], False
    save_file(tensors, path, metadata={"store": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"users: 'a' with 2 recent items; expected 0 to 0"):
        CacheStore.load(path, layout=model.layout)


@torch.no_grad()
def test_a_cache_of_a_model_that_does_not_count_is_refused_by_one_that_does():
    plain, counting = (build("sasrec", CASES["3 segments"](), counts=counts) for counts in ("none", "all"))
    items, _, _ = windows(plain, timed=False)
    recent = items[:, plain.layout.history :]
    cache = plain.append(recent[:, :2], cache=nothing_yet(plain, 4, timed=False))[1]
    with pytest.raises(ValueError, match=r"^cache: holds no ids of its items; expected one of a model that counts them$"):
        counting.append(recent[:, 2:3], cache=cache)


@torch.no_grad()
def test_too_little_room_is_no_room():
    model = build("hstu", CASES["3 segments"]())
    (items, times, now), history = (tensor[:1] for tensor in windows(model)), model.layout.history
    recent, since = items[:, history:], times[:, history:]
    store = CacheStore(layout=model.layout)
    store.put("a", model.compress(items[:, :history], times[:, :history]))
    expected = model.user_states(recent, since, now, cache=store.get(["a"]))
    assert torch.equal(model.user_states(recent, since, now, cache=store.get(["a"], room=1)), expected)
    kept = {}
    for room in (0, 2):
        cache = store.get(["a"], room=room)
        while cache.recent < model.layout.recent - 1:
            columns = slice(cache.recent, cache.recent + 2)
            _, cache = model.append(recent[:, columns], since[:, columns], now, cache=cache)
        kept[room] = cache
    assert_equal(kept[2], kept[0])


@torch.no_grad()
def test_what_an_emptied_store_held_binds_nobody():
    model = build("hstu", CASES["3 segments"]())
    items, times, _ = (tensor[:1] for tensor in windows(model))
    timed, untimed = (appended(model, items, of, offset=6, count=0) for of in (times, None))
    store = CacheStore(layout=model.layout)
    store.put("a", timed)
    store.put("a", untimed)  # in place of the only one
    assert_equal(store.get(["a"]), untimed)
    store.remove("a")
    store.put("b", timed)
    assert_equal(store.get(["b"]), timed)
