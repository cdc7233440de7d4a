"""Trains the model of a peer's cell: our split goes to the peers' Python, and vectors of users and items come back."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.cell import Cell
from benchmarks.peers.environment import interpreter
from benchmarks.peers.exchange import PARTS, PeerTask, PeerWork
from benchmarks.peers.part import PEERS
from benchmarks.peers.process import run_task
from persrec import names
from persrec.commandline import duration
from persrec.data.splits import Part, Split

EXCHANGE = "exchange"  # a folder in the model's, for as long as the training runs


class PeerVectors(nn.Module):
    """What is kept of a trained peer: item vectors, and vectors of the users before each target. Its weights are not kept."""

    items: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor

    def __init__(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes the arrays ``items`` ``[V, D]``, ``validation`` and ``test`` ``[E, D]``."""
        super().__init__()
        for name in ("items", *PARTS):
            self.register_buffer(name, torch.from_numpy(arrays[name]))


def train_peer(
    cell: Cell, data: Split, folder: Path, *, cache_dir: str | None, report: Callable[[str], None]
) -> tuple[PeerVectors, dict[str, Any]]:
    """The vectors of the cell's trained peer, and how the training went, in the names of `persrec.training.TrainingResult`.

    A training that is stopped begins anew: RecTools keeps no state between epochs here.

    Args:
        cell: the cell.
        data: its split; the peer gets no test target.
        folder: the model's, where files are exchanged during the training.
        cache_dir: where the peers' environment is; None is the default place.
        report: called with a line on how far the training is.

    Raises:
        PeerEnvironmentError: there is no such environment.
        ValueError: nobody can be evaluated, or trained on.
    """
    python = interpreter(cache_dir)
    data.check_evaluated()
    data.check_trained()
    exchange_folder = folder / EXCHANGE
    shutil.rmtree(exchange_folder, ignore_errors=True)
    exchange_folder.mkdir(parents=True)
    report("training")
    task = peer_task(cell, data.num_items, "train")
    try:
        facts, vectors = run_task(python, task, exchanged_arrays(data), exchange_folder, _epoch_reporter(cell, report))
    finally:
        shutil.rmtree(exchange_folder, ignore_errors=True)
    return PeerVectors(vectors), facts


def peer_task(cell: Cell, items: int, work: PeerWork, **timing: Any) -> PeerTask:
    """What a cell asks of its peer."""
    part = names.find(PEERS, cell.backbone)
    cell_settings = (
        "layers", "heads", "width", "dropout", "negatives", "temperature", "learning_rate", "batch_size", "epochs", "patience", "seed",
    )  # fmt: skip
    return PeerTask(
        work=work,
        target=part.target,
        items=items,
        window=cell.history + cell.recent,
        threads=cell.threads,
        time_bias=cell.time_bias,
        **{name: getattr(cell, name) for name in cell_settings},
        **timing,
    )


def exchanged_arrays(data: Split) -> dict[str, NDArray[Any]]:
    """The training part, and for each target its past and the time of its request; of the validation its targets too, to stop the training.

    An event of unknown time gets the time of the event before it, or else of the first known one after it in the training part, so that no
    event learns the time of a target: RecTools orders events by their times, and takes each time as known.
    """
    data = replace(data, sequences=replace(data.sequences, times=_known_times(data)))
    sequences, ends = data.sequences, data.train_ends
    counts = np.asarray(ends, dtype=np.int64)
    rows = np.arange(counts.sum()) + np.repeat(sequences.offsets[:-1] - np.cumsum(counts) + counts, counts)
    arrays: dict[str, NDArray[Any]] = {
        "train_users": np.repeat(np.arange(len(sequences)), counts),
        "train_items": np.asarray(sequences.items[rows], dtype=np.int64),
        "train_times": np.asarray(sequences.times[rows], dtype=np.int64),
        "exclude_seen": np.array(data.exclude_seen),
        "validation_targets": data.targets("validation"),
        "validation_users": data.validation.users,
    }
    for part in PARTS:
        arrays |= {f"{part}_{name}": array for name, array in _before_targets(data, part).items()}
    return arrays


def _known_times(data: Split) -> NDArray[np.int64]:
    import pandas as pd  # noqa: PLC0415 - takes a moment, and no other training needs it

    sequences, lengths = data.sequences, data.sequences.lengths
    users = np.repeat(np.arange(len(sequences)), lengths)
    is_trained = np.arange(len(users)) - sequences.offsets[users] < data.train_ends[users]
    times = pd.Series(sequences.times).where(lambda known: known != 0).groupby(users).ffill()
    times = times.where(~is_trained, times.where(is_trained).groupby(users).bfill())
    return times.groupby(users).ffill().fillna(0).to_numpy().astype(np.int64)


def _before_targets(data: Split, part: Part) -> dict[str, NDArray[Any]]:
    """The past of each target of a part, and the time of its request, which is known when it comes."""
    past, targets = data.past(part), data.of(part)
    times = data.sequences.times[data.sequences.offsets[targets.users] + targets.positions]
    return {"offsets": past.offsets, "items": past.items, "times": past.times, "query_times": np.asarray(times, dtype=np.int64)}


def _epoch_reporter(cell: Cell, report: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    def report_epoch(epoch: Mapping[str, Any]) -> None:
        time_left = duration(epoch["seconds"] * (cell.epochs - epoch["epoch"]))
        report(f"epoch {epoch['epoch']} of at most {cell.epochs}, validation ndcg@10 {epoch['validation']:.4f}, at most {time_left} left")

    return report_epoch
