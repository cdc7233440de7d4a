"""Run by the peers' own Python: the best items of RecTools' ``recommend`` beside those of the vectors that the worker gives us.

Writes the share of users with the same five items.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.peers import worker
from benchmarks.peers.exchange import PeerTask

BEST = 5


def main(folder: Path) -> None:
    task, arrays = PeerTask.read(folder)
    watch = worker.Watch(task, arrays, lambda said: None)
    model = watch.model = worker.build(task, watch)
    model.fit(worker._dataset(arrays["train_users"], arrays["train_items"], arrays["train_times"]))
    users = np.arange(len(arrays["test_query_times"]))
    rows = np.repeat(users, np.diff(arrays["test_offsets"]))
    known = worker._dataset(rows, arrays["test_items"], arrays["test_times"])
    when = pd.to_datetime(arrays["test_query_times"], unit="s")
    context = pd.DataFrame({"user_id": users, "weight": 1.0, "datetime": when}) if task.time_bias else None
    found = model.recommend(users, known, k=BEST, filter_viewed=True, context=context)
    theirs = found.sort_values(["user_id", "rank"]).groupby("user_id")["item_id"].agg(list)
    scores = watch.states("test") @ watch.item_vectors().T
    scores[torch.from_numpy(rows), torch.from_numpy(arrays["test_items"])] = -torch.inf
    scores[:, 0] = -torch.inf
    ours = scores.topk(BEST, dim=1).indices.tolist()
    sys.stdout.write(f"{np.mean([sorted(ours[user]) == sorted(theirs[user]) for user in users])}\n")


main(Path(sys.argv[1]))
