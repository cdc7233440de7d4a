"""What the recorded ranks are among: without a user's known items where the protocol leaves them out, and with what an output counts."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_cells import CELLS, LOG, subject_of

from benchmarks.cell import Cell
from benchmarks.peers.quality import measure_peer
from benchmarks.probes.quality import measure_floor, measure_quality, states_before_target
from benchmarks.probes.validation import validation_figure
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out
from persrec.data.windows import build_windows
from persrec.evaluation.floors import floor_ranks
from persrec.evaluation.states import user_states
from persrec.inputs import shape_of

pytestmark = pytest.mark.usefixtures("measuring")
KEPT, WITHOUT = (leave_one_out(dataclasses.replace(LOG, protocol=Protocol(seen_items=seen))) for seen in ("kept", "excluded"))


def lively(cell):
    """An untrained subject whose weights all have a say."""
    subject = subject_of(cell)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in subject.model.parameters():
            weight.normal_(std=0.5, generator=generator)
    return subject


def of_kept(cell):
    """A lively model of a cell and its ranks where known items are kept; the states before the targets and their cosines."""
    subject = lively(cell)
    _, ranks = measure_quality(subject, KEPT)
    with torch.no_grad():
        states = states_before_target(cell, subject.model, KEPT)
        return subject.model, ranks.tolist(), states, states @ subject.model.item_features().T


def known(data, part):
    """All items of each user before the target, by hand."""
    wanted, sequences = data.of(part), data.sequences
    starts = sequences.offsets[wanted.users]
    return [set(sequences.items[start : start + position].tolist()) for start, position in zip(starts, wanted.positions, strict=True)]


def by_hand(scores, targets, left_out):
    """1 + the other items above the target, of those that are not left out; two that lie this near would be a tie."""
    ranks = []
    for row, target, out in zip(np.asarray(scores, dtype=np.float64), targets, left_out, strict=True):
        others = [item for item in range(1, len(row)) if item != target and item not in out]
        assert min(abs(row[item] - row[target]) for item in others) > 1e-5
        ranks.append(1 + sum(row[item] > row[target] for item in others))
    return ranks


@pytest.mark.parametrize("data", [KEPT, WITHOUT], ids=["kept", "excluded"])
def test_a_models_ranks_leave_out_what_its_user_has_seen_where_the_protocol_says_so(data):
    subject = lively(CELLS["experts"])
    model, targets = subject.model, data.targets("test")
    _, ranks = measure_quality(subject, data)
    with torch.no_grad():
        scores = user_states(model, data, "test", time_bias=False) @ model.item_features().T
    nothing = [set()] * len(targets)
    expected = {"excluded": by_hand(scores, targets, known(data, "test")), "kept": by_hand(scores, targets, nothing)}
    assert expected["kept"] != expected["excluded"]
    assert ranks.tolist() == expected["excluded" if data is WITHOUT else "kept"]
    _, of_peer = measure_peer(
        subject.cell, {"test": user_states(model, data, "test", time_bias=False), "items": model.item_features()}, data
    )
    assert of_peer.tolist() == ranks.tolist()


def test_validation_leaves_out_what_was_seen_before_its_own_target():
    subject = lively(CELLS["experts"])
    with torch.no_grad():
        scores = user_states(subject.model, WITHOUT, "validation", time_bias=False) @ subject.model.item_features().T
    ranks = by_hand(scores, WITHOUT.targets("validation"), known(WITHOUT, "validation"))
    expected = np.mean([1 / math.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks])
    assert validation_figure(subject.model, WITHOUT, time_bias=False)() == pytest.approx(expected, rel=1e-6)
    assert validation_figure(subject.model, KEPT, time_bias=False)() != pytest.approx(expected, rel=1e-3)


def test_a_floors_ranks_leave_out_what_its_user_has_seen():
    past, targets = WITHOUT.past("test"), WITHOUT.targets("test")
    given = {"train_counts": WITHOUT.train_counts(), "past": (past.offsets, past.items), "targets": targets}
    without, kept = (floor_ranks("popularity", **given, seen=seen) for seen in (WITHOUT.seen("test"), None))
    assert without.tolist() != kept.tolist()
    floor = Cell(backbone="popularity", compression="none", training="none")
    assert measure_floor(floor, WITHOUT)[1].tolist() == without.tolist()
    assert measure_floor(floor, KEPT)[1].tolist() == kept.tolist()


def test_no_count_lifts_a_target_where_known_items_are_left_out():
    """A target that is a repeat would be the only one that gains."""
    cell = dataclasses.replace(CELLS["experts"], counts="all")
    counting = lively(cell)
    plain = dataclasses.replace(counting, model=copy.deepcopy(counting.model))
    plain.model.counting = None
    assert measure_quality(counting, WITHOUT)[1].tolist() == measure_quality(plain, WITHOUT)[1].tolist()
    assert measure_quality(counting, KEPT)[1].tolist() != measure_quality(plain, KEPT)[1].tolist()
    figures = [validation_figure(subject.model, WITHOUT, time_bias=False)() for subject in (counting, plain)]
    assert figures[0] == figures[1]


def test_a_cell_of_a_shorter_history_counts_no_item_of_before():
    cell = dataclasses.replace(CELLS["elastic in history"], counts="all", tokens=2, history=3)
    model, ranks, states, scores = of_kept(cell)
    targets, wanted, expected = KEPT.targets("test"), KEPT.test, {}
    with torch.no_grad():
        for counted in (3, 12):
            items = build_windows(KEPT.sequences, wanted.users, wanted.positions, shape_of(model.layout)).items.copy()
            items[:, : 12 - counted] = 0
            added = scores.scatter_add(1, *model.repeats(states, torch.from_numpy(items)))
            expected[counted] = by_hand(added, targets, [set()] * len(targets))
    assert expected[3] != expected[12]
    assert ranks == expected[3]


@pytest.mark.parametrize("staleness", [0, 3])
def test_what_a_counting_output_adds_is_in_the_ranks_and_a_stale_cache_has_not_counted_what_it_has_not_seen(staleness):
    cell = dataclasses.replace(CELLS["experts"], counts="all", staleness=staleness)
    model, ranks, states, scores = of_kept(cell)
    targets, wanted, expected = KEPT.targets("test"), KEPT.test, {}
    with torch.no_grad():
        for gap in (0, 3):
            batch = build_windows(KEPT.sequences, wanted.users, wanted.positions, shape_of(model.layout), gap=gap)
            expected[gap] = by_hand(
                scores.scatter_add(1, *model.repeats(states, torch.from_numpy(batch.items))), targets, [set()] * len(targets)
            )
        plain = by_hand(scores, targets, [set()] * len(targets))
    assert expected[0] != expected[3] != plain != expected[0]
    assert ranks == expected[staleness]
