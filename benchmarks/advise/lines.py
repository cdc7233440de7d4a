"""The lines of Python that load a chosen model of a run and serve from its caches."""

import itertools
import shlex
from pathlib import Path

from benchmarks.records import Record
from persrec import names

_LOAD = """\
from pathlib import Path

import numpy as np
import torch

from benchmarks.probes.models import served_model
from benchmarks.records import read_record
from persrec.checkpoints import load_weights
from persrec.data import load_dataset
from persrec.data.splits import split_of
from persrec.data.windows import WindowShape, build_windows
from persrec.serving import {imports}

run = Path({run!r})
record = read_record(run / "cells" / {file!r})
cell = record.cell
log = load_dataset({dataset!r}, size=cell.dataset_size, protocol=cell.protocol, digest=record.dataset.digest)
model = served_model(cell, log)
load_weights(run / "models" / record.model.key, model)
layout, features = model.layout, model.item_features()

# four test users: their items before the request, and its time
data = split_of(log, cell.split)
rows = np.unique(data.test.users, return_index=True)[1]{whole}
users, ends = data.test.users[rows[:4]], data.test.positions[rows[:4]]
shape = WindowShape(segments=tuple(segment.items for segment in layout.segments), recent=layout.recent)
window = build_windows(data.sequences, users, ends, shape, history=cell.history)
items = torch.from_numpy(window.items).to(cell.device)
times, now = {times}
"""
_TIMED, _TIMELESS = (
    "(torch.from_numpy(part).to(cell.device) for part in (window.times, window.query_times))",
    "None, None  # this model reads no times",
)
_CUT = """\
history, recent = items[:, : layout.history], items[:, layout.history :]
{split_times}
"""
_WHOLE = "\nrows = rows[data.test.positions[rows] >= layout.recent]  # of those with as many recent items as the layout has"
_SEEN = """\
starts = data.sequences.offsets[users]  # all items that each of them has had, beyond the window too
had = [torch.from_numpy(data.sequences.items[start : start + end].astype("int64")) for start, end in zip(starts, ends, strict=True)]
seen = torch.nn.utils.rnn.pad_sequence(had, batch_first=True).to(cell.device)
"""
_TIMED_CUT = "history_times, recent_times = times[:, : layout.history], times[:, layout.history :]"
_TIMELESS_CUT = "history_times, recent_times = None, None"
_STORE = """\
store = CacheStore(layout=layout, dtype=cell.cache_dtype)
with torch.inference_mode():
    store.put_each(users.tolist(), model.compress(history, history_times))  # at a refresh
    cache = store.get(users.tolist(), device=cell.device, room=layout.recent)  # at a request, from here on
    states = model.user_states(recent, recent_times, now, cache=cache)
"""
_APPEND = """\
with torch.inference_mode():
    kept = model.with_room(model.compress(history, history_times))  # at a refresh
    for place in range(layout.recent):  # a request each: it brings the newest item
        cache, new = kept, recent[:, kept.recent : place + 1]
        since = None if times is None else recent_times[:, kept.recent : place + 1]
        then = now if times is None or place + 1 == layout.recent else recent_times[:, place + 1]
        states, kept = model.append(new, since, then, cache=cache)
"""
_RECOMPUTE = """\
with torch.inference_mode():
    states = model.user_states(items, times, now)  # nothing is kept, the window is computed at each request
"""
_BEST = "    ids, scores = recommend(states, features, seen={seen}, count=10{repeats})\n"
# what a model that counts adds to the scores of the users' own items
_REPEATS = {
    _STORE: "model.repeats(states, recent, cache=cache)",
    _APPEND: "model.repeats(states, new, cache=cache)", _RECOMPUTE: "model.repeats(states, items)",
}  # fmt: skip


def serving_lines(record: Record, results: Path) -> str:
    """The program for a trained cell of a run in the folder ``results``."""
    serving = _serving(record)
    loaded = _LOAD.format(
        imports="CacheStore, recommend" if serving is _STORE else "recommend",
        run=str(results),
        file=f"{record.cell_key}.json",
        dataset=dataset_argument(record),
        times=_TIMED if record.cell.time_bias else _TIMELESS,
        whole=_WHOLE if serving is _APPEND else "",
    )
    cut = "" if serving is _RECOMPUTE else _CUT.format(split_times=_TIMED_CUT if record.cell.time_bias else _TIMELESS_CUT)
    leaves_out = record.dataset is not None and record.dataset.exclude_seen
    repeats = "" if record.cell.counts == names.COUNTS[0] else f", repeats={_REPEATS[serving]}"
    seen_items = _SEEN if leaves_out else ""
    return f"{loaded}{cut}{seen_items}\n{serving}{_BEST.format(seen='seen' if leaves_out else 'None', repeats=repeats)}"


def dataset_argument(record: Record) -> str:
    """What ``load_dataset`` takes: a known name, or the TOML that the run got as ``--dataset``."""
    if record.cell.dataset in names.datasets():
        return record.cell.dataset
    words = shlex.split(record.provenance.rerun or "")
    for word, following in itertools.pairwise(words):
        if word == "--dataset":
            return following
    return record.cell.dataset


def _serving(record: Record) -> str:
    cell, part = record.cell, record.parts.compression
    if cell.serving == "recompute" or part is None or not part.needs_history:
        return _RECOMPUTE
    if cell.serving == "append":
        return _APPEND
    return _STORE
