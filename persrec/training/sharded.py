"""The state of a training run on several processes: each writes its shards, and any number of processes goes on from them.

Shards are safetensors files, which are read without unpickling anything.
"""

import json
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from persrec.files import write_atomically
from persrec.training.state import EVERY_S, StateError, StateKeeper, Training, check_run, state_facts, state_tensors, take_state
from persrec.training.team import Team, own_part

FACTS = "sharded.json"  # names the folder of shards that is whole
_SHARDS = re.compile(r"shards-[0-9]+")
_MOMENT = re.compile(r"(best_)?optimizer\.([0-9]+)\.(.+)")


class ShardedKeeper(StateKeeper):
    """Keeps the state of a training run on several processes in a folder; each of them calls it at the same steps.

    Torch's own generators, which dropout draws from, are not kept: a run that goes on draws anew.

    Args:
        folder: made where missing.
        team: the processes.
        every_s: seconds between two states inside an epoch, by the first process's clock.
    """

    def __init__(self, folder: Path, team: Team, *, every_s: float = EVERY_S) -> None:
        super().__init__(folder / FACTS, every_s=every_s)
        self._folder, self._team = folder, team

    def restore(self, training: Training) -> bool:
        """As `StateKeeper` says."""
        if not self.path.is_file():
            return False
        load_shards(self._folder, training)
        training.progress.resumes += 1
        return True

    def _is_due(self, now: float, *, epoch_ended: bool) -> bool:
        """As `StateKeeper` says; the first process decides for all."""
        return bool(self._team.first(float(super()._is_due(now, epoch_ended=epoch_ended))))

    def _save(self, training: Training) -> None:
        save_shards(self._folder, training, self._team)


def save_shards(folder: Path, training: Training, team: Team) -> None:
    """Writes the shards of all processes; the state before stays until the new one is whole."""
    name = f"shards-{int(team.first(time.time() * 1000))}"  # a new name, as there may be two states of one step
    tensors = state_tensors(training)
    with _no_single_process_warning():
        writer = HuggingFaceStorageWriter(str(folder / name), save_distributed=True)
        save(tensors, storage_writer=writer, no_dist=team.size == 1)
    if team.rank == 0:
        facts = state_facts(training) | {"shards": name, "moments": sorted(key for key in tensors if _MOMENT.fullmatch(key))}
        write_atomically(folder / FACTS, json.dumps(facts).encode())
        for path in folder.iterdir():
            if _SHARDS.fullmatch(path.name) and path.name != name:
                shutil.rmtree(path, ignore_errors=True)
    team.wait()


def load_shards(folder: Path, training: Training) -> None:
    """Puts ``training``, on however many processes, into the state that any number of processes kept.

    Raises:
        StateError: it cannot be read, or is of another training run.
    """
    path = folder / FACTS
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if _SHARDS.fullmatch(facts["shards"]) is None:
            raise StateError(f"state: {path} names {facts['shards']!r}; expected a folder of shards beside it")
        check_run(path, facts, training)
        tensors = _empty_tensors(training, facts)
        with _no_single_process_warning():
            reader = HuggingFaceStorageReader(str(folder / facts["shards"]))
            load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError, CheckpointException) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"state: {path} cannot be read as a training run's: {error}") from error
    take_state(training, tensors, facts, path=path)


def _empty_tensors(training: Training, facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors to load into, sharded as the weights of this process are."""
    weights = training.model.state_dict()
    parameters = [parameter for group in training.optimizer.param_groups for parameter in group["params"]]
    tensors = {f"model.{name}": torch.empty_like(tensor) for name, tensor in weights.items()}
    if facts["progress"]["best_epoch"]:
        tensors |= {f"best.{name}": torch.empty_like(tensor) for name, tensor in weights.items()}
    for key in facts["moments"]:
        _, number, slot = _MOMENT.fullmatch(key).groups()  # type: ignore[union-attr] # written so
        parameter = parameters[int(number)].detach()
        tensors[key] = torch.zeros((), device=own_part(parameter).device) if slot == "step" else torch.empty_like(parameter)
    return tensors


@contextmanager
def _no_single_process_warning() -> Iterator[None]:
    """Silences torch's warning that there is one process alone, which is meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
