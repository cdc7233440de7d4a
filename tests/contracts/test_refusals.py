"""What does not fit is refused with a ValueError that names the argument, what came and what was expected."""

import dataclasses
import itertools
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import BACKBONE_NAMES, CASES, ITEMS, WIDTH, build, elastic, experts, random_features, random_windows

from persrec import names
from persrec.backbones import BackboneSettings, build_backbone
from persrec.checkpoints import load_facts, load_weights, save_checkpoint
from persrec.serving import pack

pytestmark = pytest.mark.usefixtures("one_thread")

HISTORY, RECENT = 9, 4
OFFSETS = [3, 6, 9]


@pytest.fixture(params=BACKBONE_NAMES)
def model(request):
    return build(request.param, CASES["3 segments"]())


@pytest.fixture
def users():
    items, times, query_time = random_windows(CASES["3 segments"]().layout, holes=False)
    return items, times, query_time


def calls(model, items, times=None, **others):
    """The same bad items as a whole window, as recent items, as a history, and as a segment: name of the argument, call."""
    cache = model.compress(
        torch.ones(len(items), 3, dtype=torch.int64), None if times is None else torch.ones(len(items), 3, dtype=torch.int64)
    )
    return [
        ("items", lambda: model.score(items, times, **others)),
        ("items", lambda: model.score(items[:, :2], None if times is None else times[:, :2], cache=cache, **others)),
        ("history", lambda: model.compress(items[:, :3], None if times is None else times[:, :3], **others)),
        ("segment", lambda: model.extend(cache, items[:, :3], None if times is None else times[:, :3], **others)),
    ]


@torch.no_grad()
def test_ids_out_of_range(model, users):
    for wrong, came in ((-1, r"ids from -1 to"), (ITEMS, rf"to {ITEMS};")):
        items = users[0].clone()
        items[1, 0] = wrong
        for name, call in calls(model, items):
            with pytest.raises(ValueError, match=rf"^{name}: .*{came}.* expected 0 to {ITEMS - 1}$"):
                call()


@torch.no_grad()
def test_ids_are_held_against_the_vectors_given(model, users):
    features = random_features()[:5]
    for name, call in calls(model, users[0].clamp(max=4)):
        call()
    for name, call in calls(model, users[0].clamp(max=4) + 1, item_features=features):
        with pytest.raises(ValueError, match=rf"^{name}: ids from .* to 5; expected 0 to 4$"):
            call()


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
@torch.no_grad()
def test_ids_of_another_type(model, users, dtype):
    for name, call in calls(model, users[0].to(dtype)):
        with pytest.raises(ValueError, match=rf"^{name}: {dtype} of shape .*; expected int64 \[users, items\]$"):
            call()


@torch.no_grad()
def test_items_that_are_no_table(model):
    cache = model.compress(torch.ones(2, 3, dtype=torch.int64))
    for items in (torch.ones(4, dtype=torch.int64), torch.ones(2, 3, 1, dtype=torch.int64), torch.ones(2, 0, dtype=torch.int64)):
        bad = [
            ("items", lambda items=items: model.score(items)),
            ("items", lambda items=items: model.score(items, cache=cache)),
            ("history", lambda items=items: model.compress(items)),
            ("segment", lambda items=items: model.extend(cache, items)),
        ]
        for name, call in bad:
            with pytest.raises(ValueError, match=rf"^{name}: torch.int64 of shape \[.*\]; expected int64 \[users, items\]$"):
                call()


@torch.no_grad()
def test_times_of_another_shape_than_the_items(model, users):
    items, times, _ = users
    cache = model.compress(items[:, :3], times[:, :3])
    for call in (
        lambda: model.score(items, times[:, 1:]),
        lambda: model.score(items, times[:2]),
        lambda: model.score(items[:, :2], times[:, :1], cache=cache),
        lambda: model.compress(items[:, :3], times[:, :4]),
        lambda: model.extend(cache, items[:, :3], times[:, :2]),
    ):
        with pytest.raises(ValueError, match=r"^times: shape .*; expected \[4, \d+\]"):
            call()


@torch.no_grad()
def test_times_that_are_not_whole_seconds(model, users):
    items, times, query_time = users
    for name, call in calls(model, items, times.double()):
        with pytest.raises(ValueError, match=r"^times: torch.float64.* expected int64"):
            call()
    with pytest.raises(ValueError, match=r"^query_time: torch.float64.* expected int64"):
        model.score(items, times, query_time.double())


@torch.no_grad()
def test_a_request_time_that_is_not_one_a_user(model, users):
    items, times, query_time = users
    cache = model.compress(items[:, :9], times[:, :9])
    for wrong in (query_time[:, None], query_time[:3], query_time[:1], query_time[0]):
        for call in (
            lambda wrong=wrong: model.score(items, times, wrong),
            lambda wrong=wrong: model.score(items[:, 9:], times[:, 9:], wrong, cache=cache),
        ):
            with pytest.raises(ValueError, match=r"^query_time: .*expected .*\[4\]"):
                call()


@torch.no_grad()
def test_a_window_that_is_too_wide(model):
    with pytest.raises(ValueError, match=r"^items: 14 wide; the layout's window is 13$"):
        model.score(torch.ones(2, 14, dtype=torch.int64))


@torch.no_grad()
def test_too_many_recent_items_with_a_cache(model):
    cache = model.compress(torch.ones(2, HISTORY, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^items: 5 recent items with a cache; expected at most 4$"):
        model.score(torch.ones(2, RECENT + 1, dtype=torch.int64), cache=cache)


@torch.no_grad()
def test_a_request_without_any_recent_item_is_not_answered_from_padding(model, users):
    items, times, query_time = users
    cache = model.compress(items[:, :HISTORY], times[:, :HISTORY])
    recent = items[:, HISTORY:].clone()
    recent[1, :-1] = 0  # one item is enough
    assert model.score(recent, times[:, HISTORY:], query_time, cache=cache).shape == (4, ITEMS)
    recent[1:3] = 0
    with pytest.raises(
        ValueError, match=r"^items: no recent item in row 1; expected at least one in each row that is served from a cache$"
    ):
        model.score(recent, times[:, HISTORY:], query_time, cache=cache)


@torch.no_grad()
def test_a_history_that_ends_at_no_offset_of_the_plan(model):
    for width in sorted({*range(1, 12)} - {*OFFSETS}):
        with pytest.raises(ValueError, match=rf"^history: {width} items wide, not an offset of the plan; expected one of \[3, 6, 9\]$"):
            model.compress(torch.ones(2, width, dtype=torch.int64))


@torch.no_grad()
def test_a_segment_of_another_width_than_the_plans_next(model):
    cache = model.compress(torch.ones(2, 3, dtype=torch.int64))
    for width in (1, 2, 4, 6):
        with pytest.raises(ValueError, match=rf"^segment: {width} items wide; expected 3, segment 2 of the plan$"):
            model.extend(cache, torch.ones(2, width, dtype=torch.int64))


@torch.no_grad()
def test_extending_a_cache_that_is_full(model):
    cache = model.compress(torch.ones(2, HISTORY, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^cache: holds all 3 segments of the layout"):
        model.extend(cache, torch.ones(2, 3, dtype=torch.int64))


@torch.no_grad()
def test_a_cache_of_another_layout(model):
    name = "hstu"
    for other in (
        experts([(3, 2), (6, 2), (9, 1)], window=13),
        experts([(3, 2), (6, 2), (9, 2)], window=14),
        experts([(3, 2), (6, 2), (9, 2)], window=13, hide_empty_experts=False),
        CASES["full"](),
    ):
        foreign = build(name, other)
        cache = foreign.compress(torch.ones(2, foreign.layout.offsets[0], dtype=torch.int64))
        for call in (
            lambda cache=cache: model.score(torch.ones(2, 2, dtype=torch.int64), cache=cache),
            lambda cache=cache: model.extend(cache, torch.ones(2, 3, dtype=torch.int64)),
        ):
            with pytest.raises(ValueError, match=r"^cache: of layout \w+; expected \w+, the model's$"):
                call()


def asked_with(model, cache):
    """A request and an extension with a cache, which must both refuse it."""
    return (
        lambda: model.score(torch.ones(2, 2, dtype=torch.int64), cache=cache),
        lambda: model.extend(cache, torch.ones(2, 3, dtype=torch.int64)),
    )


# one key-value head of a Llama is half of its two heads: other heads change both
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("other", [{"layers": 1}, {"layers": 3}, {"heads": 1}])
@torch.no_grad()
def test_a_cache_of_a_model_of_other_sizes(backbone, other):
    model, foreign = build(backbone, CASES["3 segments"]()), build(backbone, CASES["3 segments"](), **other)
    came, expected = (
        f"{len(one.backbone.layers)} layers of {heads} heads of width {width}"
        for one in (foreign, model)
        for heads, width in [one.backbone.cache_heads()]
    )
    for call in asked_with(model, foreign.compress(torch.ones(2, 3, dtype=torch.int64))):
        with pytest.raises(ValueError, match=rf"^cache: {came}; expected {expected}, as the model keeps$"):
            call()


@pytest.mark.parametrize("case", ["3 segments", "memory of 3 segments"])
@torch.no_grad()
def test_a_cache_that_another_kind_of_backbone_computed(case):
    models = {name: build(name, CASES[case]()) for name in ("hstu", "sasrec", "llama")}
    kinds = {"hstu": "HSTU", "sasrec": "SASRec", "llama": "Llama"}
    for mine, other in itertools.permutations(models, 2):
        cache = models[other].compress(torch.ones(2, 3, dtype=torch.int64))
        kept = cache if case.startswith("memory") else pack(cache, "int8").unpack()
        for call in asked_with(models[mine], kept):
            with pytest.raises(
                ValueError, match=rf"^cache: computed by a {kinds[other]}; expected one of a {kinds[mine]}, as the model is$"
            ):
                call()


@torch.no_grad()
def test_a_memory_of_another_width():
    model = build("sasrec", CASES["memory of 3 segments"]())
    cache = model.compress(torch.ones(2, 3, dtype=torch.int64))
    wider = dataclasses.replace(cache, states=cache.states.repeat(1, 1, 2))
    for call in asked_with(model, wider):
        with pytest.raises(ValueError, match=rf"^cache: states of width {2 * WIDTH}; expected {WIDTH}, as the model's$"):
            call()


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_a_checkpoint_that_is_not_the_models_names_every_tensor_at_fault(backbone, tmp_path):
    model = build(backbone, CASES["3 segments"]())
    save_checkpoint(tmp_path / "whole", model, {})
    state = load_file(tmp_path / "whole" / "weights.safetensors")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, second, third, *_ = sorted(state)
    bad = {name: weight + 1 for name, weight in state.items() if name not in (first, second)}
    bad |= {"of.another": torch.ones(2), third: torch.ones(2, 3, 5)}
    (tmp_path / "bad").mkdir()
    save_file(bad, tmp_path / "bad" / "weights.safetensors")
    (tmp_path / "bad" / "model.json").write_text("{}")
    shape = re.escape(str(list(state[third].shape)))
    with pytest.raises(
        ValueError,
        match=rf"^checkpoint: .*: state: missing: {first}, {second}; extra: of.another; misshapen: {third} \[2, 3, 5\], expected {shape}$",
    ):
        load_weights(tmp_path / "bad", model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"half a file", None])
def test_a_checkpoint_that_cannot_be_read_is_named(content, tmp_path):
    model = build("sasrec", CASES["recent"]())
    save_checkpoint(tmp_path / "model", model, {})
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] if content is None else content)
    with pytest.raises(ValueError, match=r"^checkpoint: .*weights.safetensors cannot be read: "):
        load_weights(tmp_path / "model", model)
    (tmp_path / "model" / "model.json").write_text("[]")
    with pytest.raises(ValueError, match=r"^checkpoint: .*model.json holds list; expected a table"):
        load_facts(tmp_path / "model")


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_a_cache_of_another_number_of_tokens_in_use(backbone):
    model = build(backbone, elastic(use=2))
    items = torch.ones(2, 9, dtype=torch.int64)
    cache = model.compress(items)
    model.compression.use(4)
    with pytest.raises(ValueError, match=r"^cache: of layout"):
        model.score(items[:, :2], cache=cache)
    model.compression.use(2)
    assert model.score(items[:, :2], cache=cache).shape == (2, ITEMS)


@torch.no_grad()
def test_a_cache_of_another_number_of_users(model):
    cache = model.compress(torch.ones(2, 3, dtype=torch.int64))
    for call in (
        lambda: model.score(torch.ones(3, 2, dtype=torch.int64), cache=cache),
        lambda: model.extend(cache, torch.ones(3, 3, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match=r"^cache: 2 users; expected 3, as the items$"):
            call()


@torch.no_grad()
def test_times_on_one_side_of_a_cache_alone(model, users):
    items, times, _ = users
    timed, untimed = model.compress(items[:, :3], times[:, :3]), model.compress(items[:, :3])
    for call in (
        lambda: model.score(items[:, :2], cache=timed),
        lambda: model.extend(timed, items[:, :3]),
    ):
        with pytest.raises(ValueError, match=r"^times: missing, but the cache was made with times$"):
            call()
    for call in (
        lambda: model.score(items[:, :2], times[:, :2], cache=untimed),
        lambda: model.extend(untimed, items[:, :3], times[:, :3]),
    ):
        with pytest.raises(ValueError, match=r"^times: given, but the cache was made without times$"):
            call()


@torch.no_grad()
def test_raw_vectors_of_another_width(model, users):
    for features in (torch.ones(ITEMS, WIDTH + 1), torch.ones(WIDTH), torch.ones(1, ITEMS, WIDTH)):
        for _, call in calls(model, users[0], item_features=features):
            with pytest.raises(ValueError, match=rf"^item_features: shape .*; expected \[items, {WIDTH}\]$"):
                call()


@torch.no_grad()
def test_a_model_without_a_history_has_nothing_to_compress():
    model = build("hstu", CASES["recent"]())
    with pytest.raises(ValueError, match=r"^history: 5 items wide, not an offset of the plan; expected one of"):
        model.compress(torch.ones(2, 5, dtype=torch.int64))


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_what_is_chosen_by_the_recent_items_cannot_be_kept(backbone):
    model, other = build(backbone, CASES["retrieval"]()), build(backbone, CASES["strided"]())
    items = torch.ones(2, HISTORY, dtype=torch.int64)
    cache = other.compress(items)
    for name, call in (
        ("history", lambda: model.compress(items)),
        ("segment", lambda: model.extend(cache, items)),
        ("cache", lambda: model.score(items[:, :2], cache=cache)),
    ):
        with pytest.raises(
            ValueError, match=rf"^{name}: Retrieval chooses by the recent items, .*expected a whole window, without a cache$"
        ):
            call()


@torch.no_grad()
def test_no_users_are_an_answer_too(model):
    assert model.score(torch.ones(0, 13, dtype=torch.int64)).shape == (0, ITEMS)
    cache = model.compress(torch.ones(0, 9, dtype=torch.int64))
    assert model.score(torch.ones(0, 4, dtype=torch.int64), cache=cache).shape == (0, ITEMS)


@pytest.mark.parametrize("backbone", [name for name in BACKBONE_NAMES if names.backbones()[name].items != "texts"])
def test_texts_given_to_a_model_that_reads_ids(backbone):
    model = build(backbone, CASES["recent"]())
    with pytest.raises(ValueError, match="^token_ids: "):
        model.encode_items(torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 2]))


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_sizes_that_a_backbone_does_not_have(backbone):
    sizes = {"width": 8, "layers": 1, "heads": 2, "length": 4}
    part = names.backbones()[backbone]
    if "key_value_heads" not in part.optional_sizes:
        with pytest.raises(ValueError, match=rf"^key_value_heads: 1 for a {backbone}, which has none; expected None$"):
            build_backbone(backbone, BackboneSettings(**sizes, key_value_heads=1))
    else:
        with pytest.raises(ValueError, match=r"^key_value_heads: 3 do not divide the heads, 2$"):
            build_backbone(backbone, BackboneSettings(**sizes, key_value_heads=3))
        assert build_backbone(backbone, BackboneSettings(**sizes, key_value_heads=2)).cache_heads() == (2, 4)
    if "divisor" not in part.optional_sizes:
        with pytest.raises(ValueError, match=rf"^divisor: 0 for a {backbone}, which has none; expected None$"):
            build_backbone(backbone, BackboneSettings(**sizes, divisor=0))
    if "feed_forward" not in part.optional_sizes:
        with pytest.raises(ValueError, match=rf"^feed_forward: 24 for a {backbone}, which has none; expected None$"):
            build_backbone(backbone, BackboneSettings(**sizes, feed_forward=24))
    else:
        one, other = (build_backbone(backbone, BackboneSettings(**sizes, feed_forward=inner)) for inner in (24, 48))
        macs = [model.macs(positions=5, pairs=7)["feed_forward"] for model in (one, other)]
        assert macs[1] == 2 * macs[0]
        assert macs[0] in (5 * 2 * 8 * 24, 5 * 3 * 8 * 24)  # two maps, or three of a gated one
