"""Own checkpoints: a folder with ``weights.safetensors`` and ``model.json``, written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from persrec.files import atomic_folder

WEIGHTS, FACTS = "weights.safetensors", "model.json"
SHA256 = "weights_sha256"  # among the facts


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another model; the model may be trained anew."""


def save_checkpoint(folder: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
    """Writes a model's weights and facts; an earlier checkpoint there is replaced.

    Args:
        folder: where to; made, with its parents. A kill leaves the old one, or none.
        model: any module.
        facts: plain JSON values; the digest of the weights is added to them.
    """
    with atomic_folder(folder) as part:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part / WEIGHTS)
        all_facts = {**facts, SHA256: _sha256(part / WEIGHTS)}
        (part / FACTS).write_text(json.dumps(all_facts, indent=1, sort_keys=True, allow_nan=False) + "\n")


def check_checkpoint(folder: Path) -> None:
    """Reads a checkpoint once, without a model: its facts, the header and size of its weights, and their digest.

    Raises:
        CheckpointError: a file is missing, empty, cut short or changed; the message names it.
    """
    facts, weights = load_facts(folder), folder / WEIGHTS
    try:
        with safe_open(weights, framework="pt"):  # reads the header, and compares the size
            pass
        digest = _sha256(weights)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint: {weights} cannot be read: {error}") from error
    if facts.get(SHA256, digest) != digest:  # an old checkpoint has none
        raise CheckpointError(f"checkpoint: {weights} has the SHA-256 {digest}; expected {facts[SHA256]}, as it was written")


def is_whole(folder: Path) -> bool:
    """Whether `check_checkpoint` finds nothing wrong."""
    try:
        check_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def load_facts(folder: Path) -> dict[str, Any]:
    """The facts of the model in ``folder``.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint: {folder / FACTS} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"checkpoint: {folder / FACTS} holds {type(facts).__name__}; expected a table")
    return facts


def load_weights(folder: Path, model: nn.Module) -> None:
    """Puts the weights in ``folder`` into ``model``.

    Raises:
        CheckpointError: the folder is damaged, or a tensor is missing, extra or of another shape; the message names it.
    """
    state = read_weights(folder)
    try:
        check_state(state, model)
    except ValueError as error:
        raise CheckpointError(f"checkpoint: {folder / WEIGHTS} does not fit the model: {error}") from error
    model.load_state_dict(state)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors in ``folder`` by name.

    Raises:
        CheckpointError: the folder is damaged.
    """
    check_checkpoint(folder)
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint: {folder / WEIGHTS} cannot be read: {error}") from error


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
    faults = [f"{kind}: {', '.join(names)}" for kind, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen)) if names]
    if faults:
        raise ValueError(f"state: {'; '.join(faults)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
