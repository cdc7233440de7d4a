"""A peer's training through the exchange, with a stand-in for its library: what it is given, which epoch is kept, how it fails."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer_cells import HSTU, ITEMS, SASREC, UNKNOWN, log, split

from benchmarks.peers.environment import PeerEnvironmentError, interpreter
from benchmarks.peers.exchange import PARTS
from benchmarks.peers.quality import measure_peer
from benchmarks.peers.training import exchanged_arrays, train_peer
from benchmarks.peers.windows import windows_of
from persrec.data.splits import leave_one_out, temporal


def trained(cache: Path, folder: Path, cell=SASREC, said=None):
    vectors, facts = train_peer(cell, split(), folder, cache_dir=str(cache), report=[].append if said is None else said.append)
    return dict(vectors.state_dict()), facts


def test_the_best_epoch_by_our_figure_is_kept_and_ranked_by_our_code(in_process: Path, tmp_path: Path) -> None:
    vectors, facts = trained(in_process, tmp_path / "model")
    quality, ranks = measure_peer(SASREC, vectors, split())
    targets = split().targets("test")
    known = ~np.isin(targets, UNKNOWN)
    assert known.sum() == 3
    assert (ranks[known] == 1).all()  # epoch 2 means the item that follows, and so does no other
    assert quality["metrics"]["recall@10"]["value"] == np.mean(ranks <= 10)
    assert {(one["name"], one["request_time"]) for one in quality["protocols"]} == {("rectools", False)}  # the 5-core of this log is empty
    assert facts["best_epoch"] == 2
    assert facts["best_step"] == 6
    figures = [epoch["validation"] for epoch in facts["curve"]]
    assert facts["best_validation"] == max(figures) == figures[1]
    assert figures[1] >= 4 / 5  # four of five validation targets are known, and first


def test_an_item_that_the_peer_never_saw_comes_behind_every_item_that_it_knows(in_process: Path, tmp_path: Path) -> None:
    vectors, _ = trained(in_process, tmp_path / "model")
    _, ranks = measure_peer(SASREC, vectors, split())
    data = split()
    for row, target in enumerate(data.targets("test")):
        if target in UNKNOWN:
            past, _ = data.sequences[int(data.test.users[row])]
            seen = set(past[: data.test.positions[row]].tolist())
            unseen_known = set(range(1, ITEMS + 1)) - seen - set(UNKNOWN)
            assert ranks[row] > len(unseen_known)


def test_epochs_without_a_gain_end_the_training_and_that_is_a_plateau(in_process: Path, tmp_path: Path) -> None:
    said: list[str] = []
    _, facts = trained(in_process, tmp_path / "model", said=said)
    assert len(facts["curve"]) == 2 + SASREC.patience
    assert facts["converged"] is True
    assert facts["diverged_at"] is None
    assert said[0] == "training"
    assert [line.partition(",")[0] for line in said[1:]] == [f"epoch {number} of at most 9" for number in range(1, 6)]


def test_a_bound_on_epochs_is_no_plateau(in_process: Path, tmp_path: Path) -> None:
    _, facts = trained(in_process, tmp_path / "model", dataclasses.replace(SASREC, epochs=3))
    assert (len(facts["curve"]), facts["converged"], facts["best_epoch"]) == (3, False, 2)


def test_the_facts_count_the_targets_that_the_peer_is_trained_on(in_process: Path, tmp_path: Path) -> None:
    _, facts = trained(in_process, tmp_path / "model", HSTU)
    window = HSTU.history + HSTU.recent
    ends = split().train_ends
    an_epoch = sum(min(int(end), window + 1) - 1 for end in ends)
    assert facts["targets"] == an_epoch * len(facts["curve"])
    assert facts["curve"][0]["padding_share"] == pytest.approx(1 - an_epoch / (len(ends) * window))
    assert facts["seconds_per_million_targets"] > 0
    assert facts["train_seconds"] >= sum(epoch["seconds"] for epoch in facts["curve"])


def test_divergence_goes_back_to_the_best_epoch_and_at_once_is_a_failure(
    in_process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PEER", "diverge in 3")
    vectors, facts = trained(in_process, tmp_path / "model")
    assert (facts["diverged_at"], facts["best_epoch"], facts["converged"]) == (3, 2, False)
    assert bool(vectors["test"].isfinite().all())
    monkeypatch.setenv("FAKE_PEER", "diverge")
    with pytest.raises(FloatingPointError, match="diverged in epoch 1"):
        trained(in_process, tmp_path / "model")


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ('echo \'{"error": {"type": "MemoryError", "message": "no room"}}\'; exit 1', MemoryError, "peers: MemoryError: no room"),
        ('echo \'{"error": {"type": "KeyError", "message": "a name"}}\'; exit 1', RuntimeError, "peers: KeyError: a name"),
        ('echo \'{"error": {"type": "FloatingPointError", "message": "diverged"}}\'; exit 1', FloatingPointError, "diverged"),
        ("exit 7", RuntimeError, "exit code 7 and without an answer"),
        ("exit 0", RuntimeError, "exit code 0 and without an answer"),
    ],
)
def test_how_a_worker_fails_is_told_and_nothing_is_left(script: str, kind: type, said: str, peers_cache: Path, tmp_path: Path) -> None:
    interpreter(peers_cache).write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(kind, match=said):
        trained(peers_cache, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_the_worker_runs_in_the_peers_python_with_our_two_packages_and_nothing_beside_them(peers_cache: Path, tmp_path: Path) -> None:
    """The whole way through a process of its own; the other tests of a training run the worker here."""
    vectors, facts = trained(peers_cache, tmp_path / "model")
    assert facts["versions"]["rectools"] == "0.0.fake"
    assert facts["best_epoch"] == 2
    assert len(vectors["items"]) == ITEMS + 1
    assert list((tmp_path / "model").iterdir()) == []


def test_without_an_environment_the_error_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(PeerEnvironmentError, match=r"peers: no environment in .*; make it with: python -m benchmarks.peers setup"):
        trained(tmp_path / "empty", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("split_of", [leave_one_out, temporal])
def test_the_peer_gets_the_training_part_and_no_test_target(split_of) -> None:
    whole = log()
    days = whole.times[0] + 86_400 * np.arange(len(whole.items)) // 3
    data = split_of(type(whole)(**{name: getattr(whole, name) for name in whole.__dataclass_fields__} | {"times": days}))
    arrays = exchanged_arrays(data)
    for user in range(len(data.sequences)):
        items, times = data.sequences[user]
        own = arrays["train_users"] == user
        end = data.train_ends[user]
        assert arrays["train_items"][own].tolist() == items[:end].tolist()
        assert arrays["train_times"][own].tolist() == times[:end].tolist()
    for part in PARTS:
        wanted = data.of(part)
        for row, (user, position) in enumerate(zip(wanted.users, wanted.positions, strict=True)):
            items, times = data.sequences[int(user)]
            past = slice(arrays[f"{part}_offsets"][row], arrays[f"{part}_offsets"][row + 1])
            assert arrays[f"{part}_items"][past].tolist() == items[:position].tolist()
            assert arrays[f"{part}_query_times"][row] == times[position]
    assert [name for name in arrays if "targets" in name] == ["validation_targets"]


@given(st.data())
def test_windows_hold_the_last_known_items_and_the_times_beside_them(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 5))
    pasts = data.draw(st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=5))
    ids = np.array([0, *data.draw(st.permutations([0, 0, 1, 2, 3, 4]))])
    times = [[100 * row + place for place in range(len(past))] for row, past in enumerate(pasts)]
    found = windows_of(
        {
            "offsets": np.concatenate([[0], np.cumsum([len(past) for past in pasts])]),
            "items": np.array([item for past in pasts for item in past], dtype=np.int64),
            "times": np.array([time for row in times for time in row], dtype=np.int64),
            "query_times": 100 * np.arange(len(pasts)) + 99,
        },
        ids,
        length,
    )
    for row, past in enumerate(pasts):
        kept = [(int(ids[item]), time) for item, time in zip(past, times[row], strict=True) if ids[item]][-length:]
        padding = length - len(kept)
        first = kept[0][1] if kept else 100 * row + 99
        assert found.items[row].tolist() == [0] * padding + [item for item, _ in kept]
        assert found.times[row].tolist() == [first] * padding + [time for _, time in kept] + [100 * row + 99]


def test_data_with_nothing_to_train_on_are_refused(in_process: Path, tmp_path: Path) -> None:
    short = log()
    rows = np.concatenate([np.arange(start, start + 3) for start in short.offsets[:-1]])
    few = dataclasses.replace(short, offsets=3 * np.arange(len(short.offsets)), items=short.items[rows], times=short.times[rows])
    with pytest.raises(ValueError, match="no user has the 2 training items"):
        train_peer(SASREC, leave_one_out(few), tmp_path / "model", cache_dir=str(in_process), report=[].append)
    assert not (tmp_path / "model").exists()


def test_an_event_of_unknown_time_keeps_its_place() -> None:
    """RecTools orders a user's events by their times, to which 0 is 1970."""
    data = split()
    times = np.array(data.sequences.times)
    start, stop = data.sequences.offsets[1:3]
    assert stop - start >= 4
    times[start : start + 4] = [0, 50, 0, 60]
    times[: data.sequences.offsets[1]] = 0
    data = dataclasses.replace(data, sequences=dataclasses.replace(data.sequences, times=times))
    arrays = exchanged_arrays(data)
    of_second = arrays["train_users"] == 1
    count = min(int(of_second.sum()), 4)
    assert arrays["train_times"][of_second][:count].tolist() == [50, 50, 50, 60][:count]
    assert not arrays["train_times"][arrays["train_users"] == 0].any()  # nothing is known of these
    assert arrays["test_times"].dtype == np.int64
    assert (data.sequences.times == times).all()  # ours knows what is unknown


def test_no_event_learns_the_time_of_a_target() -> None:
    data = split()
    start, stop = data.sequences.offsets[:2]
    times = np.array(data.sequences.times)
    times[start:stop] = [*[0] * (stop - start - 1), 90]  # the test target's alone is known
    arrays = exchanged_arrays(dataclasses.replace(data, sequences=dataclasses.replace(data.sequences, times=times)))
    assert not arrays["train_times"][arrays["train_users"] == 0].any()
    first = int(np.flatnonzero(data.test.users == 0)[0])
    assert arrays["validation_query_times"][first] == 0
    assert arrays["test_query_times"][first] == 90
    assert not arrays["test_times"][: arrays["test_offsets"][1]].any()
