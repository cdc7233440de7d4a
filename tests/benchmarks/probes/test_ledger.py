"""The FLOP ledger refuses to agree with itself: counts that differ, operations without a price, bytes that the formula does not give."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from tiny_cells import CELLS, subject_of

from benchmarks.cell import InvalidMeasurementError
from benchmarks.probes.counters import Count, count_by_fvcore
from benchmarks.probes.flops import _cache_bytes, ledger_rows
from benchmarks.probes.parts import ATTENTION, PROJECTIONS
from benchmarks.probes.subject import Subject

pytestmark = pytest.mark.usefixtures("measuring")
MACS = {PROJECTIONS: 10_000, ATTENTION: 100}


def count(**more):
    return Count(parts={PROJECTIONS: MACS[PROJECTIONS] + more.get("projections", 0), ATTENTION: MACS[ATTENTION]}, uncounted={})


def agreement(by_torch, by_fvcore):
    """By part, whether its counts agree, and the total's."""
    return {row["part"]: row["agrees"] for row in ledger_rows("serve", MACS, MACS, by_torch, by_fvcore)}


def test_counts_agree_within_a_hundredth_of_the_formula_and_each_counter_is_asked():
    everything = dict.fromkeys((PROJECTIONS, ATTENTION, "total"), True)
    assert agreement(count(), count()) == agreement(count(), None) == everything
    assert agreement(count(projections=90), count(projections=-90)) == everything
    off = everything | {PROJECTIONS: False, "total": False}
    assert agreement(count(projections=110), count()) == agreement(count(projections=110), None) == off
    assert agreement(count(), count(projections=-110)) == off


def test_a_part_without_a_formula_that_a_counter_sees_is_in_the_ledger_and_does_not_agree():
    unforeseen = Count(parts=MACS | {"feed_forward": 2}, uncounted={})
    assert agreement(unforeseen, count())["feed_forward"] is False


@pytest.mark.parametrize(("operation", "name"), [(torch.linalg.inv, "aten::linalg_inv"), (torch.cdist, "aten::cdist")])
def test_an_operation_without_a_price_makes_a_cell_invalid(operation, name):
    model = subject_of(CELLS["experts"]).model

    def call(items):
        square = model.items.lookup(items)[0, :8, :8] + torch.eye(8)
        return operation(square) if operation is torch.linalg.inv else operation(square, square)

    with pytest.raises(InvalidMeasurementError, match=rf"^no price for the operations .*{name}"):
        count_by_fvcore(call, torch.arange(1, 17)[None], model)


@pytest.mark.parametrize("serving", ["cache", "append"])
@pytest.mark.parametrize("name", ["experts", "memory in 2 segments"])
def test_a_cache_of_other_bytes_than_the_formulas_makes_a_cell_invalid(name, serving, monkeypatch):
    subject = subject_of(dataclasses.replace(CELLS[name], serving=serving, training="none"))
    if serving == "cache":
        own = Subject.compress
        monkeypatch.setattr(Subject, "compress", lambda self, request: longer(own(self, request)))
    else:
        appended = Subject.appended
        monkeypatch.setattr(Subject, "appended", lambda self, request: (longer((whole := appended(self, request))[0]), *whole[1:]))
    with pytest.raises(InvalidMeasurementError, match=r"^a user's cache holds \d+ bytes; the formula says \d+$"):
        _cache_bytes(subject)


def longer(cache):
    """With one position more."""
    states = None if cache.states is None else F.pad(cache.states, (0, 0, 0, 1))
    return dataclasses.replace(
        cache, states=states, layers=tuple(tuple(F.pad(part, (0, 0, 0, 1)) for part in layer) for layer in cache.layers)
    )
