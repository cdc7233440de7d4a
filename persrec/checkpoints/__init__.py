"""Checkpoints: our own folders, and models of the public PerSRec code, which are imported when they are asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from persrec.checkpoints.folder import (
    CheckpointError,
    check_checkpoint,
    check_state,
    is_whole,
    load_facts,
    load_weights,
    save_checkpoint,
)

if TYPE_CHECKING:
    from persrec.checkpoints.reference import import_reference, load_imported

__all__ = [
    "CheckpointError",
    "check_checkpoint",
    "check_state",
    "import_reference",
    "is_whole",
    "load_facts",
    "load_imported",
    "load_weights",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Imports what reads the public code's models on demand: it builds backbones of every kind, and our own folders need none."""
    if name in ("import_reference", "load_imported"):
        return getattr(importlib.import_module("persrec.checkpoints.reference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
