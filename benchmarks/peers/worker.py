"""Trains a peer, or times its requests, in the peers' own Python: ``python -m benchmarks.peers.worker FOLDER``.

RecTools is imported here and nowhere else. Of ours it takes the rank code and the clock, which need torch and numpy alone. It writes a
line of JSON to the standard output at the end of every epoch; what the libraries print goes to the standard error.
"""

import copy
import dataclasses
import importlib
import json
import math
import os
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.peers.exchange import PARTS, PeerTask, write_answer
from benchmarks.peers.windows import PeerWindows, windows_of
from benchmarks.probes.clock import repeat
from persrec.evaluation.metrics import metric_values, user_means
from persrec.evaluation.ranks import target_ranks

UNKNOWN = -2.0  # the score of an item that the peer never saw in training: below every cosine
USERS_AT_ONCE = 256
HOUR = 3600
TETHER = Path(__file__).resolve().parents[1] / "isolation" / "tether.py"

Arrays = Mapping[str, NDArray[Any]]
Say = Callable[[Mapping[str, Any]], None]


def main(folder: Path, say: Say) -> None:
    """Does the task in ``folder`` and writes the answer there."""
    task, arrays = PeerTask.read(folder)
    torch.set_num_threads(task.threads)
    facts, answer_arrays = train(task, arrays, say) if task.work == "train" else time_requests(task)
    versions = {name: importlib.import_module(name).__version__ for name in ("rectools", "torch", "numpy")}
    write_answer(folder, {**facts, "versions": versions}, answer_arrays)


def train(task: PeerTask, arrays: Arrays, say: Say) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """How the training went, and unit vectors of items and of users before each target, all of the best epoch on validation."""
    watch = Watch(task, arrays, say)
    model = build(task, watch)
    watch.model = model
    start = time.perf_counter()
    model.fit(_dataset(arrays["train_users"], arrays["train_items"], arrays["train_times"]))
    if watch.best_weights is None:
        raise FloatingPointError("diverged in epoch 1: the vectors are no finite numbers")
    model.torch_model.load_state_dict(watch.best_weights)
    facts = {**watch.facts(), "train_seconds": time.perf_counter() - start, "parameters": _parameters(model)}
    vectors: dict[str, NDArray[Any]] = {part: watch.states(part).numpy() for part in PARTS}
    return facts, {"items": watch.item_vectors().numpy(), **vectors}


class Watch:
    """Looks at a peer at the end of every epoch: keeps the best weights by our figure, and ends the training on a plateau.

    RecTools copies a trainer with its callbacks before it fits. So the callbacks are functions, which are not copied, and what they
    know is here.
    """

    def __init__(self, task: PeerTask, arrays: Arrays, say: Say) -> None:
        """Watches a training of ``task`` on ``arrays``."""
        self.model: Any = None
        self.best_weights: dict[str, torch.Tensor] | None = None
        self._task, self._arrays, self._say = task, arrays, say
        self._windows: dict[str, PeerWindows] = {}
        self._curve: list[dict[str, Any]] = []
        self._best_validation = self._epoch_start = 0.0
        self._best_epoch = 0
        self._end_reason = "bound"
        lengths = np.minimum(np.bincount(arrays["train_users"]), task.window + 1)
        trained_lengths = lengths[lengths > 1]  # RecTools trains on a user's last events, and on nobody with one
        self._targets = int((trained_lengths - 1).sum())
        self._padding = 1 - self._targets / (len(trained_lengths) * task.window)

    def begin(self) -> None:
        """An epoch begins."""
        self._epoch_start = time.perf_counter()

    def end(self, trainer: Any) -> None:
        """An epoch has ended."""
        seconds, epoch = time.perf_counter() - self._epoch_start, len(self._curve) + 1
        figure = self.validate()
        if not math.isfinite(figure):
            self._end_reason, trainer.should_stop = "diverged", True
            return
        loss = float(trainer.callback_metrics.get("train_loss", math.nan))
        report = {
            "epoch": epoch, "loss": loss if math.isfinite(loss) else None, "validation": figure, "seconds": seconds,
            "padding_share": self._padding, "steps": int(trainer.global_step), "learning_rate": self._task.learning_rate,
        }  # fmt: skip
        self._curve.append(report)
        self._say(report)
        if self.best_weights is None or figure > self._best_validation:
            self._best_validation, self._best_epoch = figure, epoch
            self.best_weights = copy.deepcopy(self.model.torch_model.state_dict())
        elif epoch - self._best_epoch >= self._task.patience:
            self._end_reason, trainer.should_stop = "plateau", True

    def validate(self) -> float:
        """NDCG@10 on the validation targets by our rank code; NaN where a vector is not finite."""
        training = self.model.torch_model.training
        users, items = self.states("validation"), self.item_vectors()
        self.model.torch_model.train(training)
        if not bool(users.isfinite().all() and items.isfinite().all()):
            return math.nan
        arrays = self._arrays
        seen = (arrays["validation_offsets"], arrays["validation_items"]) if bool(arrays["exclude_seen"]) else None
        ranks = target_ranks(users, items, arrays["validation_targets"], seen)
        return float(user_means(metric_values(ranks)["ndcg@10"], arrays["validation_users"]).mean())

    def states(self, part: str) -> torch.Tensor:
        """Unit vectors ``[E, D + 1]`` before each target of a part; the last column is 1, see `item_vectors`."""
        if part not in self._windows:
            past = {name: self._arrays[f"{part}_{name}"] for name in ("offsets", "items", "times", "query_times")}
            self._windows[part] = windows_of(past, self._peer_ids(), self._task.window)
        windows, batches = self._windows[part], []
        net = self.model.torch_model.eval()
        with torch.no_grad():
            vectors = net.item_model.get_all_embeddings()
            for start in range(0, len(windows.items), USERS_AT_ONCE):
                rows = slice(start, start + USERS_AT_ONCE)
                batches.append(_user_vectors(net, _batch(windows.items[rows], windows.times[rows]), vectors))
        states = torch.cat(batches)
        return torch.cat([states, states.new_ones(len(states), 1)], dim=1)

    @torch.no_grad()
    def item_vectors(self) -> torch.Tensor:
        """Unit rows ``[V, D + 1]`` by our ids; an item that the peer does not know has `UNKNOWN` in the last column and 0 elsewhere."""
        ids = torch.from_numpy(self._peer_ids())
        vectors = F.normalize(self.model.torch_model.item_model.get_all_embeddings(), dim=-1)[ids]
        is_known = (ids > 0)[:, None]
        return torch.cat([vectors * is_known, torch.where(is_known, 0.0, UNKNOWN)], dim=1)

    def facts(self) -> dict[str, Any]:
        """How the training went, in the names of `persrec.training.TrainingResult`."""
        steps, epochs = self._curve[-1]["steps"], len(self._curve)
        targets, seconds = self._targets * epochs, sum(report["seconds"] for report in self._curve)
        return {
            "best_epoch": self._best_epoch, "best_step": self._curve[self._best_epoch - 1]["steps"],
            "best_validation": self._best_validation, "learning_rate_at_best": self._task.learning_rate,
            "converged": self._end_reason == "plateau", "steps": steps, "decay_steps": 0, "targets": targets, "curve": self._curve,
            "seconds_per_million_targets": seconds / targets * 1e6 if targets else None, "resumes": 0,
            "diverged_at": epochs + 1 if self._end_reason == "diverged" else None,
        }  # fmt: skip

    def _peer_ids(self) -> NDArray[np.int64]:
        """The peer's number of each of our items, ``[V]``; 0, its padding, of those that it does not know."""
        our_ids = self.model.data_preparator.item_id_map.get_external_sorted_by_internal()[1:].astype(np.int64)
        ids = np.zeros(self._task.items, dtype=np.int64)
        ids[our_ids] = np.arange(1, len(our_ids) + 1)
        return ids


def time_requests(task: PeerTask) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Seconds of requests to an untrained model whose catalogue has all items, one user at a time, and of whole batches.

    A request starts from tensors and the catalogue's unit vectors: what RecTools does before that with a caller's tables is left out.
    """
    model = build(dataclasses.replace(task, epochs=0), None)
    model.fit(_dataset(*_whole_catalogue(task)))
    net = model.torch_model.eval()
    random = np.random.default_rng(task.seed)
    with torch.inference_mode():
        vectors = net.item_model.get_all_embeddings()
        features = F.normalize(vectors, dim=-1)

        def requests(users: int) -> dict[str, torch.Tensor]:
            times = np.broadcast_to(np.arange(1, task.window + 2) * HOUR, (users, task.window + 1))
            return _batch(random.integers(1, len(vectors), (users, task.window)), times)

        def ask(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            scores = _user_vectors(net, batch, vectors) @ features.T
            scores.scatter_(1, batch["x"], -torch.inf)
            best = scores[:, 1:].topk(min(task.best, len(features) - 1), dim=1)
            return best.indices + 1, best.values

        one_user, batch = requests(1), requests(task.batch_size)
        seconds = {
            "serve": repeat(lambda: _user_vectors(net, one_user, vectors), device="cpu", seconds=task.seconds, least=task.least),
            "request": repeat(lambda: ask(one_user), device="cpu", seconds=task.seconds, least=task.least),
            "batch": repeat(lambda: ask(batch), device="cpu", seconds=task.seconds / 2, least=5),
        }
    return {"parameters": _parameters(model)}, seconds


def build(task: PeerTask, watch: Watch | None) -> Any:
    """The untrained peer: RecTools' own recipe of cosines over a temperature and sampled softmax."""
    from pytorch_lightning import Trainer, seed_everything  # noqa: PLC0415 - is in the peers' environment alone
    from pytorch_lightning.callbacks import LambdaCallback  # noqa: PLC0415 - as above
    from pytorch_lightning.plugins.environments import LightningEnvironment  # noqa: PLC0415 - as above
    from rectools.models.nn.item_net import IdEmbeddingsItemNet  # noqa: PLC0415 - as above

    seed_everything(task.seed, workers=True)
    callbacks = []
    if watch is not None:
        callbacks.append(
            LambdaCallback(
                on_train_epoch_start=lambda trainer, module: watch.begin(),  # noqa: ARG005 - the signature of a callback
                on_train_epoch_end=lambda trainer, module: watch.end(trainer),  # noqa: ARG005 - as above
            )
        )
    module, _, name = task.target.partition(":")
    times = {"relative_time_attention": task.time_bias, "relative_pos_attention": True} if name == "HSTUModel" else {}
    return getattr(importlib.import_module(module), name)(
        n_blocks=task.layers,
        n_heads=task.heads,
        n_factors=task.width,
        dropout_rate=task.dropout,
        session_max_len=task.window,
        loss="sampled_softmax",
        n_negatives=task.negatives,
        lr=task.learning_rate,
        batch_size=task.batch_size,
        item_net_block_types=(IdEmbeddingsItemNet,),
        similarity_module_kwargs={"distance": "cosine"},
        lightning_module_kwargs={"logits_t": task.temperature},
        get_trainer_func=lambda: Trainer(
            max_epochs=task.epochs,
            plugins=[LightningEnvironment()],  # the cluster's job that it may run in is not its own
            accelerator="cpu",
            devices=1,
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        ),
        **times,
    )


def _dataset(users: NDArray[Any], items: NDArray[Any], times: NDArray[Any]) -> Any:
    import pandas as pd  # noqa: PLC0415 - as RecTools, which takes tables
    from rectools.dataset import Dataset  # noqa: PLC0415 - is in the peers' environment alone

    columns = {"user_id": users, "item_id": items, "weight": 1.0, "datetime": pd.to_datetime(times, unit="s")}
    return Dataset.construct(pd.DataFrame(columns))


def _whole_catalogue(task: PeerTask) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Users, items and times that hold every item at least once, in sequences as long as a window."""
    items = np.arange(1, task.items)
    users = (items - 1) // task.window
    all_users = np.unique(users)  # each once more, so that nobody has one event alone
    return np.concatenate([users, all_users]), np.concatenate([items, np.ones_like(all_users)]), np.zeros(len(items) + len(all_users))


def _user_vectors(net: Any, batch: dict[str, torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    """Unit vectors ``[B, D]`` of users."""
    return F.normalize(net.encode_sessions(batch, vectors)[:, -1, :], dim=-1)


def _batch(items: NDArray[Any], times: NDArray[Any]) -> dict[str, torch.Tensor]:
    """A batch as RecTools' models take it: items ``[B, L]``, and times ``[B, L + 1]``, the last those of the requests."""
    return {"x": torch.from_numpy(np.array(items)), "unix_ts": torch.from_numpy(np.array(times))}


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.torch_model.parameters() if parameter.requires_grad)


if __name__ == "__main__":
    runpy.run_path(str(TETHER))["end_with_parent"]()  # by its path: the package around it needs what is not here
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        """A line to the process that started this one."""
        lines.write(json.dumps(dict(message)) + "\n")

    try:
        main(Path(sys.argv[1]), tell)
    except BaseException as error:  # noqa: BLE001 - the boundary of the process: whatever it is becomes a line
        traceback.print_exc()
        tell({"error": {"type": type(error).__name__, "message": " ".join(str(error).split())}})
        sys.exit(1)
