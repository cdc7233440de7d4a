"""Own checkpoints: a folder with ``weights.safetensors`` and ``model.json``, written whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS, FACTS = "weights.safetensors", "model.json"


def save_checkpoint(folder: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
    """Writes a model's weights and what is known of it; an earlier checkpoint there is replaced.

    Args:
        folder: where to; made, with its parents. A kill leaves the old one, or none.
        model: any module.
        facts: plain JSON values.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part / WEIGHTS)
        (part / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def load_facts(folder: Path) -> dict[str, Any]:
    """What is known of the model in ``folder``.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint: {folder / FACTS} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"checkpoint: {folder / FACTS} holds {type(facts).__name__}; expected a table")  # noqa: TRY004 - bad input, not a bad call
    return facts


def load_weights(folder: Path, model: nn.Module) -> None:
    """Puts the weights in ``folder`` into ``model``.

    Raises:
        ValueError: a tensor is missing, extra or of another shape; the message names it.
    """
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint: {folder / WEIGHTS} cannot be read: {error}") from error
    check_state(state, model)
    model.load_state_dict(state)


def check_state(state: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Raises a ValueError that names the missing, extra or misshapen tensors of ``state``."""
    check_shapes(state, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})


def check_shapes(state: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises a ValueError that names the tensors of ``state`` that are missing, extra or not of the expected shape."""
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    misshapen = [
        f"{name} {list(state[name].shape)}, expected {list(expected[name])}"
        for name in sorted(expected.keys() & state.keys())
        if tuple(state[name].shape) != tuple(expected[name])
    ]
    faults = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen)) if names]
    if faults:
        raise ValueError(f"state: {'; '.join(faults)}")
