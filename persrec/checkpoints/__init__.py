"""Checkpoints: our own folders, and models of the public PerSRec code."""

from persrec.checkpoints.folder import (
    CheckpointError,
    check_checkpoint,
    check_state,
    is_whole,
    load_facts,
    load_weights,
    save_checkpoint,
)
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
