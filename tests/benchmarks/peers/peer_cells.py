"""Small cells of peers, and data in which item follows item."""

import numpy as np

from benchmarks.cell import Cell
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import Split, leave_one_out

SETTINGS = {
    "compression": "peer", "serving": "recompute", "history": 3, "recent": 2, "width": 16, "layers": 1, "warmup_steps": 0, "decays": False,
    "negatives": 8, "epochs": 9, "patience": 3, "dataset_size": "tiny", "batch_size": 4,
}  # fmt: skip
SASREC = Cell(backbone="rectools-sasrec", time_bias=False, **SETTINGS)
HSTU = Cell(backbone="rectools-hstu", **SETTINGS)
ITEMS = 12
UNKNOWN = (11, 12)  # items that nobody is trained on


def log() -> InteractionLog:
    """Users who go from item to item, an hour apart; two users' targets are items that nobody is trained on."""
    runs = [range(1, 8), range(2, 10), range(4, 12), range(3, 9), range(6, 13)]
    items = np.concatenate([np.array(run) for run in runs])
    offsets = np.concatenate([[0], np.cumsum([len(run) for run in runs])]).astype(np.int64)
    times = np.concatenate([1_000_000 + 3600 * np.arange(len(run)) for run in runs]).astype(np.int64)
    return InteractionLog(
        name="runs", offsets=offsets, items=items.astype(np.int64), times=times, num_items=ITEMS + 1,
        protocol=Protocol(seen_items="excluded"), item_texts=None, item_categories=None, digest="d" * 64,
    )  # fmt: skip


def split() -> Split:
    return leave_one_out(log())
