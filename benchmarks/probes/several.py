"""Trains the model of a cell on several processes of one machine, by torchrun."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.cell import Cell, UnsupportedError
from benchmarks.isolation.tether import end_with_parent
from benchmarks.probes.models import build_model, set_up
from benchmarks.probes.training import train
from persrec.checkpoints import save_checkpoint
from persrec.data import load_dataset
from persrec.data.splits import split_of
from persrec.training import SeveralProcesses, whole_state

PHASE, FAILED = "phase: ", "failed: "


def train_on_several(payload: Mapping[str, Any], report: Callable[[str], None]) -> int:
    """Has ``world_size`` processes train the model of ``payload["cell"]`` and write it to ``payload["model_dir"]``; returns its epochs.

    ``payload["facts"]`` go into the model's file beside the result.

    Raises:
        UnsupportedError: there are fewer GPUs than processes, or fewer processors than more than two of them.
        RuntimeError: a process failed; the message is that of the first that did.
    """
    cell = Cell.from_dict(payload["cell"])
    if cell.device == "cuda" and torch.cuda.device_count() < cell.world_size:
        raise UnsupportedError(f"world_size: {cell.world_size} with {torch.cuda.device_count()} GPUs here; expected one a process")
    limit = max(2, os.cpu_count() or 1)  # each holds a model: too many would take all memory of the machine before they compute
    if cell.device == "cpu" and cell.world_size > limit:
        raise UnsupportedError(f"world_size: {cell.world_size} on a machine of {os.cpu_count()} processors; expected {limit} at most")
    failure = ""
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps(dict(payload)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cell.world_size), "-m", __name__]
        variables = os.environ | {"OMP_NUM_THREADS": str(cell.threads)}
        with subprocess.Popen([*command, str(task)], stdout=subprocess.PIPE, text=True, env=variables) as processes:
            assert processes.stdout is not None  # noqa: S101 - a pipe, as asked for
            for line in processes.stdout:
                if line.startswith(PHASE):
                    report(line.removeprefix(PHASE).strip())
                elif line.startswith(FAILED) and not failure:
                    failure = line.removeprefix(FAILED).strip()
    if processes.returncode:
        raise RuntimeError(failure or f"torchrun ended with exit code {processes.returncode}")
    return len(json.loads((Path(payload["model_dir"]) / "model.json").read_text())["curve"])


def main(task: Path) -> None:
    """What each process does."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # a cell has it blocked; torchrun ends a failed process's others with it
    payload = json.loads(task.read_text())
    cell = Cell.from_dict(payload["cell"])
    set_up(cell)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cell.device == "cuda" else torch.device("cpu")
    team = SeveralProcesses(device)
    try:
        _train(cell, payload, team)
    except Exception as error:
        sys.stdout.write(f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())}\n")
        sys.stdout.flush()
        raise
    team.leave()


def _train(cell: Cell, payload: Mapping[str, Any], team: SeveralProcesses) -> None:
    def report(phase: str) -> None:
        if team.rank == 0:
            sys.stdout.write(f"{PHASE}{phase}\n")
            sys.stdout.flush()

    dataset, folders = payload.get("dataset_file") or cell.dataset, {name: payload[name] for name in ("data_dir", "cache_dir")}
    log = load_dataset(dataset, size=cell.dataset_size, protocol=cell.protocol, digest=payload.get("dataset_digest"), **folders)
    folder = Path(payload["model_dir"])
    model, result = train(cell, log, folder / "shards", code_digest=payload["code_digest"], report=report, team=team)
    weights = whole_state(model)
    if team.rank == 0:
        whole = build_model(cell, split_of(log, cell.split).num_items, log.item_texts, log.item_categories)
        whole.load_state_dict(weights)
        save_checkpoint(folder, whole, {**result.to_dict(), **payload["facts"]})
    team.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
