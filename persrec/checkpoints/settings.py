"""Settings under the public code's names: each is checked, and a ValueError names a wrong one."""

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaConfig

Config = Mapping[str, Any]
Plan = list[tuple[int, int]]

MOST = 2**31 - 1  # of a size
MOST_LAYERS, MOST_POSITIONS = 1024, 1 << 20
LLAMA_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


def shown(value: object) -> str:
    """A value as an error shows it, however long or deep it is."""
    try:
        return reprlib.repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        return f"a {type(value).__name__} too long to show"


def setting(config: Config, name: str) -> Any:
    """A setting that must be there."""
    if config.get(name) is None:
        raise ValueError(f"config: {name} is missing")
    return config[name]


def whole(config: Config, name: str, *, most: int = MOST) -> int:
    """A whole number from 1 to ``most``."""
    return _checked_size(name, setting(config, name), most=most)


def _checked_size(name: str, value: object, *, most: int = MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"config: {name} is {shown(value)}; expected a whole number from 1 to {most}")
    return value


def share(config: Config, name: str) -> float:
    """A share from 0 to less than 1; 0 where it is missing."""
    value = 0.0 if config.get(name) is None else config[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(f"config: {name} is {shown(value)}; expected a share from 0 to less than 1")
    return float(value)


def plan_of(config: Config) -> Plan:
    """Offsets and counts of the experts; one block behind ``pretrain_item_num`` items where no list says otherwise."""
    plan = config.get("insert_method")
    if plan is None:
        plan = [(whole(config, "pretrain_item_num"), whole(config, "number_of_user_tokens"))]
    message = f"config: insert_method is {shown(plan)}; expected a list of (offset, count)"
    if not isinstance(plan, list | tuple) or not plan or any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in plan):
        raise ValueError(message)
    pairs = [(offset, count) for offset, count in plan]
    for pair in pairs:
        for value in pair:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_POSITIONS:
                raise ValueError(message)
    tokens = sum(count for _, count in pairs)
    expected_tokens = config.get("number_of_user_tokens")
    if expected_tokens is not None and tokens != expected_tokens:
        raise ValueError(f"config: insert_method {shown(plan)} holds {tokens} tokens; number_of_user_tokens says {shown(expected_tokens)}")
    return pairs


def only_supported(config: Config, name: str, value: object) -> None:
    """Raises a ValueError where a setting is there and is not the one value that is supported."""
    actual = config.get(name)
    if actual is not None and (isinstance(actual, bool) or actual != value):
        raise ValueError(f"config: {name} is {shown(actual)}; expected {value!r}, the one that is supported")


def flag(config: Config, name: str) -> bool:
    """True or false; false where it is missing."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"config: {name} is {shown(value)}; expected true or false")
    return bool(value)


def llama_shape(config: Config) -> "LlamaConfig":
    """The shape of the decoder under ``llama``."""
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import llama_config  # noqa: PLC0415

    values = setting(config, "llama")
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"config: llama is {shown(values)}; expected a table of the decoder's shape")
    for name in LLAMA_SIZES:
        if values.get(name) is not None:
            _checked_size(f"llama.{name}", values[name], most=MOST_LAYERS if name == "num_hidden_layers" else MOST)
    shape = llama_config(values)
    heads, groups = shape.num_attention_heads, shape.num_key_value_heads
    if heads % groups or (values.get("head_dim") is None and shape.hidden_size % heads):
        raise ValueError(
            f"config: llama.num_attention_heads is {heads} for a hidden_size of {shape.hidden_size} and num_key_value_heads {groups}; "
            "expected a divisor of the one and a multiple of the other"
        )
    return shape
