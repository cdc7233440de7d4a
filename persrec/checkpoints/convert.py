"""Turns a checkpoint file of the public PerSRec code into a folder of ours."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from persrec.checkpoints.folder import save_checkpoint
from persrec.checkpoints.reference import REFERENCE, import_reference

# where trainers put the weights beside other things
WEIGHT_PARTS = ("model", "state_dict", "module")
WRAPPERS = ("module.", "_forward_module.")


def convert(file: Path, config_file: Path, out: Path) -> dict[str, Any]:
    """Reads a checkpoint of the public code and writes ``out`` with ``weights.safetensors`` and ``model.json``.

    Args:
        file: what ``torch.save`` wrote: tensors by name, or a table that holds them under ``model``.
        config_file: JSON, the configuration as `import_reference` takes it.
        out: a folder that is not there yet; it is written whole or not at all.

    Returns:
        The facts in ``model.json``.

    Raises:
        ValueError: something cannot be read, does not fit or is in the way; nothing is written then.
        OSError: the folder cannot be written.
    """
    if out.exists():
        raise ValueError(f"out: {out} exists; expected a new folder")
    config = _read_config(config_file)
    model = import_reference(config, _read_state(file))
    facts = {REFERENCE: config, "source": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}
    save_checkpoint(out, model, facts)
    return facts


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except RecursionError as error:
        raise ValueError(f"config: {file} is nested too deep to be read") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"config: {file} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"config: {file} holds {type(config).__name__}; expected a table of settings")  # noqa: TRY004 - bad input is one kind of error
    return config


def _read_state(file: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file; it is read with ``weights_only``, so that nothing in it is run."""
    if not file.is_file():
        raise ValueError(f"file: {file} is not there")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"file: {file} holds more than tensors and plain values, which is not loaded; expected a state_dict") from error
    except Exception as error:  # a damaged file fails in any way
        raise ValueError(f"file: {file} cannot be read ({type(error).__name__}); expected what torch.save wrote of a state_dict") from error
    parts = [content, *(content.get(name) for name in WEIGHT_PARTS)] if isinstance(content, Mapping) else []
    for part in parts:
        if isinstance(part, Mapping) and part and all(isinstance(value, torch.Tensor) for value in part.values()):
            return _without_wrapper(part)
    description = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(
        f"file: {file} holds {description or 'nothing'}; expected tensors by name, or a table with them under {WEIGHT_PARTS[0]!r}"
    )


def _without_wrapper(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the prefix of a wrapper around the model, where every name has it."""
    for prefix in WRAPPERS:
        if all(str(name).startswith(prefix) for name in state):
            return {str(name).removeprefix(prefix): value for name, value in state.items()}
    return {str(name): value for name, value in state.items()}
