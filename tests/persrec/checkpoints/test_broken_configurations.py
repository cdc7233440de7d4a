"""Whatever is done to a configuration or to its tensors, a model comes of it or a ValueError."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from public_models import CONFIGS, config, state

from persrec.checkpoints import import_reference

pytestmark = pytest.mark.usefixtures("one_thread")

NESTED = []
for _ in range(5_000):
    NESTED = [NESTED]  # deeper than Python follows

NUMBERS = [0, 1, -1, 2, 3, 7, 0.5, -0.5, 1.0, 2.7, math.nan, math.inf, 2**20, 2**31, 2**63, 10**30, 10**5000]
LISTS = [[], [3], [[2, 1]], [[2, 1.5]], [[2, 10**9]], [["2", "1"]], [[5, 3]], (), NESTED]
VALUES = st.sampled_from([None, True, False, *NUMBERS, "", "3", "silu", "x" * 300, b"3", *LISTS, {}, {"a": 3}, {1}])
OF_THE_MODEL = ["number_of_user_tokens", "use_ft_flash_attn", "MAX_TEXT_LENGTH", "hidden_dropout_prob", "hidden_act", "layer_norm_eps"]
OF_A_LLAMA = ["head_dim", "rope_scaling", "rope_theta", "rope_parameters", "hidden_act", "attention_bias", "rms_norm_eps", "pad_token_id"]
DTYPES = ["int64", "bool", "complex64", "float64", "bfloat16"]


@st.composite
def changed(draw, values):
    """A table with one to three values dropped, replaced, nested, negated or made huge, deep down too."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, 3))):
        table = values["llama"] if isinstance(values.get("llama"), dict) and draw(st.booleans()) else values
        if not table:
            continue
        name = draw(st.sampled_from(sorted(table)))
        how = draw(st.sampled_from(["drop", "replace", "nest", "negate", "huge", "add"]))
        if how == "drop":
            del table[name]
        elif how == "replace":
            table[name] = draw(VALUES)
        elif how == "nest":
            table[name] = draw(st.sampled_from([[table[name]], {name: table[name]}, [[table[name]]]]))
        elif how == "add":
            table[draw(st.sampled_from(OF_THE_MODEL if table is values else OF_A_LLAMA))] = draw(VALUES)
        elif isinstance(table[name], int | float):
            table[name] = -table[name] if how == "negate" else table[name] * 10**9
    return values


def imported_or_refused(settings_, tensors):
    try:
        model = import_reference(settings_, tensors)
    except ValueError as error:
        assert str(error), "says nothing"  # noqa: PT017 - the one error that may come
    else:
        assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_broken_configuration_is_a_value_error_or_a_model(name):
    tensors = state(name)

    @settings(max_examples=60)
    @given(changed(config(name)))
    def check(values):
        imported_or_refused(values, tensors)

    check()


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=40)
@given(data=st.data())
def test_broken_tensors_are_a_value_error_or_a_model(name, data):
    tensors = state(name)
    key = data.draw(st.sampled_from(sorted(tensors)))
    how = data.draw(
        st.sampled_from(["drop", "flatten", "cut", "wider", "int64", "bool", "complex64", "float64", "bfloat16", "meta", "sparse", "none"])
    )
    tensor = tensors[key]
    if how == "drop":
        del tensors[key]
    elif how in DTYPES:
        tensors[key] = tensor.to(getattr(torch, how))
    else:
        tensors[key] = {
            "flatten": tensor.flatten,
            "cut": lambda: tensor[..., :-1] if tensor.dim() else tensor[None],
            "wider": lambda: tensor[None].expand(10**9, *tensor.shape),
            "meta": lambda: tensor.to("meta"),
            "sparse": tensor.to_sparse,
            "none": lambda: None,
        }[how]()
    imported_or_refused(config(name), tensors)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("HSTU", {"model": []}, "config: model [] is not one that can be imported"),
        ("HSTU", {"model": {"HSTU": 1}}, "config: model {'HSTU': 1} is not one"),
        ("HSTU", {"item_num": -5}, "config: item_num is -5; expected a whole number from 1 to"),
        ("HSTU", {"item_num": 10**5000}, "config: item_num is a int too long to show; expected a whole number"),
        ("HSTU", {"item_num": NESTED}, "config: item_num is [[[[[[[...]]]]]]]; expected a whole number"),
        ("HSTU", {"n_layers": 10**6}, "config: n_layers is 1000000; expected a whole number from 1 to 1024"),
        ("HSTU", {"item_num": 2**31 - 1}, "state: misshapen: item_embedding.weight [9, 4], expected [2147483647, 4]"),
        ("HSTU", {"hidden_dropout_prob": []}, "config: hidden_dropout_prob is []; expected a share"),
        ("HSTU", {"hidden_act": []}, "config: hidden_act is []; expected 'silu'"),
        ("PersonalizedHSTU", {"insert_method": [[2, 1.5]]}, "config: insert_method is [[2, 1.5]]; expected a list of (offset, count)"),
        ("PersonalizedHSTU", {"insert_method": [["2", "1"], ["5", "2"]]}, "config: insert_method is [['2', '1'], ['5', '2']]"),
        ("PersonalizedHSTU", {"insert_method": []}, "config: insert_method is []; expected a list"),
        ("LLMIDRec", {"llama": []}, "config: llama is []; expected a table"),
        ("LLMIDRec", {"llama": config("LLMIDRec")["llama"] | {"num_attention_heads": 0}}, "config: llama.num_attention_heads is 0"),
        (
            "LLMIDRec",
            {"llama": config("LLMIDRec")["llama"] | {"num_attention_heads": 3}},
            "attention heads (3)",
        ),
        ("LLMIDRec", {"llama": config("LLMIDRec")["llama"] | {"hidden_act": "loud"}}, "llama"),
        ("HLLM", {"use_ft_flash_attn": "no"}, "config: use_ft_flash_attn is 'no'; expected true or false"),
        ("HLLM", {"MAX_TEXT_LENGTH": -1}, "config: MAX_TEXT_LENGTH is -1"),
    ],
)
def test_the_setting_at_fault_is_named(name, changes, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - what it says is compared below, brackets and all
        import_reference(config(name, **changes), state(name))
    assert says in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_tensor_of_other_numbers_is_named(dtype):
    with pytest.raises(ValueError, match=f"^state: item_embedding.weight is {dtype}, .*; expected dense floating-point numbers$"):
        import_reference(config("HSTU"), state("HSTU") | {"item_embedding.weight": torch.ones(9, 4).to(dtype)})
