"""Timed probes take the path that a cell is served by, and leave its weights as they were."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_cells import CELLS, SIZES, subject_of

from benchmarks.cell import Cell
from benchmarks.probes import latency
from benchmarks.probes.latency import LEAST as LEAST_ALONE  # as they are before `measuring` shortens them
from benchmarks.probes.latency import measure_latency
from benchmarks.probes.memory import measure_memory
from benchmarks.probes.request import BEST, asking, measure_request
from benchmarks.probes.request import LEAST as LEAST_WHOLE
from benchmarks.probes.throughput import measure_throughput
from benchmarks.probes.training_cost import measure_training_cost
from benchmarks.run.plan import PROCESSES
from benchmarks.run.processes import PERCENTILES
from persrec.serving import CacheStore

OTHER_REQUESTS = {
    "appended": replace(CELLS["experts in 2 segments"], serving="append"),
    "full appended": replace(CELLS["full"], serving="append"),
    "memory": Cell(backbone="hstu", compression="memory", tokens=2, **SIZES),
    "memory appended": Cell(backbone="sasrec", compression="memory", tokens=2, serving="append", **SIZES),
}
PROBES = {"memory": measure_memory, "throughput": measure_throughput, "latency": measure_latency, "request": measure_request}
pytestmark = pytest.mark.usefixtures("measuring")


@pytest.mark.parametrize("name", ["experts", "elastic"])
def test_probes_leave_the_weights_as_they_were_and_measure_the_count_of_the_cell(name):
    cell, subject = CELLS[name], subject_of(CELLS[name])
    model = subject.model
    model.compression.use(cell.tokens)
    counts = []
    model.backbone.register_forward_hook(lambda *_: counts.append(model.layout.tokens))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for probe in (*PROBES.values(), lambda subject: measure_training_cost(subject, None)):
        probe(subject)
        assert set(counts) == {cell.tokens}
        assert not model.training
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("name", ["experts in 2 segments", "full", "pooling", "no token", "full recomputed", "recent"])
def test_a_timed_request_takes_the_path_that_the_cell_serves_by(name, probe, monkeypatch):
    subject = subject_of(CELLS[name])
    model = subject.model
    requests, compressed = [], []
    own_states, own_compress = model.user_states, model.compress

    def user_states(items, times=None, query_time=None, *, cache=None):
        requests.append((items.shape[1], None if cache is None else cache.segments))
        return own_states(items, times, query_time, cache=cache)

    def compress(history, times=None):
        compressed.append(history.shape[1])
        return own_compress(history, times)

    monkeypatch.setattr(model, "user_states", user_states)
    monkeypatch.setattr(model, "compress", compress)
    PROBES[probe](subject)
    if name in ("full recomputed", "recent"):  # every request runs the whole window, and nothing runs before
        assert set(requests) == {(model.layout.window, None)}
        assert compressed == []
    else:  # every request runs the recent items alone, against the cache of all the history
        assert set(requests) == {(4, len(model.layout.segments))}
        assert set(compressed) == {12}
        # compressing is timed apart: were it part of a request, there would be one for each
        assert probe != "latency" or len(compressed) == 1 < len(requests)


@pytest.mark.parametrize("name", ["experts in 2 segments", "full", "pooling", "no token", "full recomputed", "recent", *OTHER_REQUESTS])
def test_a_whole_request_gives_the_best_items_that_the_user_has_not_seen(name):
    subject = subject_of((CELLS | OTHER_REQUESTS)[name])
    model, request = subject.model, subject.request(3)
    with torch.inference_mode():
        ids, scores = asking(subject, 3)()
        products = model.score(request.items, request.times, request.query_times)
    for row in range(3):
        unseen = set(range(1, model.items.count)) - set(request.items[row].tolist())
        expected = sorted(unseen, key=lambda item: -float(products[row, item]))[:BEST]
        told = scores[row].isfinite()
        torch.testing.assert_close(scores[row, told], products[row, expected], atol=1e-5, rtol=0)
        assert set(ids[row, told].tolist()) <= unseen


@pytest.mark.parametrize("name", OTHER_REQUESTS)
def test_a_request_fetches_what_is_kept_with_recent_items_or_as_states(name, monkeypatch):
    subject = subject_of(OTHER_REQUESTS[name])
    model, fetched = subject.model, []
    called = "append" if subject.cell.serving == "append" else "user_states"
    own = getattr(model, called)

    def served(*args, cache, **settings):
        fetched.append(cache)
        return own(*args, cache=cache, **settings)

    with torch.inference_mode():
        ask = asking(subject, 2)  # which appends the recent items before
        monkeypatch.setattr(model, called, served)
        first, second = ask(), ask()
    assert torch.equal(first[1], second[1])
    one, other = fetched
    assert one.tensors
    assert bool(one.rooms) == (subject.cell.serving == "append")
    for tensor, again in zip(one.tensors, other.tensors, strict=True):
        assert torch.equal(tensor, again)
        assert tensor.untyped_storage().data_ptr() != again.untyped_storage().data_ptr()


def test_a_request_reads_its_cache_at_the_precision_of_the_cell(monkeypatch):
    cell = replace(CELLS["experts in 2 segments"], cache_dtype="int8")
    subject, read = subject_of(cell), []
    own = CacheStore.get

    def get(self, users, *, device="cpu", room=0):
        assert room == cell.recent  # or keys and values would be copied once more, to have those of the recent items behind
        read.append(self.nbytes)
        return own(self, users, device=device, room=room)

    monkeypatch.setattr(CacheStore, "get", get)
    with torch.inference_mode():
        asking(subject, 1)()
        asking(subject_of(replace(cell, cache_dtype="float32")), 1)()
    assert len(read) == 2
    assert read[0] < read[1]
    metrics, raw = measure_request(subject)
    assert metrics["requests_per_second"]["value"] > 0
    assert metrics["request_latency_p50_ms"]["n"] == len(raw["request_seconds"]) > 0


def test_the_memory_of_serving_holds_the_caches_that_a_request_fetches():
    """Recomputing holds all keys and values: a cache that counted as there before would look cheaper than it is."""
    cell = replace(CELLS["full"], history=4096, width=64, batch_size=2, time_bias=False)
    for serving in ("cache", "append"):
        subject = subject_of(replace(cell, serving=serving))
        with torch.inference_mode():
            kept = 2 * subject.compress(subject.request(2)).nbytes_per_user
        metrics, _ = measure_memory(subject)
        assert metrics["serve_peak_bytes"]["value"] > kept == 2 * 4096 * 64 * 2 * 4


def test_the_energy_of_requests_is_none_of_what_is_computed_before_them(monkeypatch):
    used = [0]

    def server(request):
        used[0] += 1000
        return lambda: used.append(used[0])

    gpu = SimpleNamespace(cell=SimpleNamespace(device="cuda"), request=lambda users: users, server=server)
    monkeypatch.setattr(latency, "energy_mj", lambda: (used[0], "told"))
    monkeypatch.setattr(latency, "warm_up", lambda call, device: call())
    monkeypatch.setattr(latency, "repeat", lambda call, **settings: np.array([1.0 for _ in range(70) if call() is None]))
    metrics, _ = measure_latency(gpu)
    assert (metrics["serve_energy_j"]["value"], metrics["serve_energy_j"]["n"], used) == (0, 70, [1000] * 72)


@pytest.mark.parametrize("least", [LEAST_ALONE, LEAST_WHOLE])
def test_the_processes_of_a_cost_take_as_many_requests_as_a_95th_percentile_needs(least):
    _, needed = PERCENTILES["_p95_"]
    assert PROCESSES * least >= needed
