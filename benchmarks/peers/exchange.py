"""What goes to a peer's interpreter and what comes back: a folder with a task, its arrays, an answer and its arrays.

Both interpreters import this module, so it needs the standard library and numpy alone.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

TASK, ARRAYS, ANSWER, ANSWER_ARRAYS = "task.json", "arrays.npz", "answer.json", "answered.npz"
PeerWork = Literal["train", "cost"]
PARTS: tuple[Literal["validation", "test"], ...] = ("validation", "test")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerTask:
    """What a peer is to do; settings as in `benchmarks.cell.Cell`.

    Attributes:
        work: ``train`` gives vectors of users and items and how the training went; ``cost`` gives seconds of requests.
        target: the peer's class, ``module:name``.
        items: ``V``, padding included.
        window: items that a user is known by, ``L``.
        time_bias: whether the times of the items, and that of the request, are given.
        patience: epochs without a gain on validation that end the training.
        seconds: requests are timed for at least so many seconds.
        least: at least so many requests are timed.
        best: number of items in a request's answer.
    """

    work: PeerWork
    target: str
    items: int
    window: int
    layers: int
    heads: int
    width: int
    dropout: float
    negatives: int
    temperature: float
    learning_rate: float
    batch_size: int
    epochs: int
    patience: int
    seed: int
    threads: int
    time_bias: bool
    seconds: float = 0.0
    least: int = 0
    best: int = 0

    @classmethod
    def read(cls, folder: Path) -> tuple[Self, dict[str, NDArray[Any]]]:
        """The task in ``folder``, and its arrays."""
        return cls(**json.loads((folder / TASK).read_text())), read_arrays(folder / ARRAYS)

    def write(self, folder: Path, arrays: Arrays) -> None:
        """Puts the task, and its arrays, into ``folder``."""
        (folder / TASK).write_text(json.dumps(dataclasses.asdict(self)))
        _write_arrays(folder / ARRAYS, arrays)


def write_answer(folder: Path, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Puts an answer into ``folder``; its facts come last, so an answer that has them is whole."""
    _write_arrays(folder / ANSWER_ARRAYS, arrays)
    (folder / ANSWER).write_text(json.dumps(dict(facts)))


def read_answer(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The facts and the arrays of the answer in ``folder``."""
    return json.loads((folder / ANSWER).read_text()), read_arrays(folder / ANSWER_ARRAYS)


def _write_arrays(path: Path, arrays: Arrays) -> None:
    write: Any = np.savez  # the two versions of numpy differ in what else it takes
    write(path, **dict(arrays))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
