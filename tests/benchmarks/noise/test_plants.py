"""Faults that are planted: the gate, or a law of the method, sees each; and sees nothing where nothing was planted."""

import dataclasses

import pytest

from benchmarks.environment import PROJECT
from benchmarks.gate import judge as gate_judge
from benchmarks.gate.baseline import load_baseline
from benchmarks.gate.validity import faults
from benchmarks.noise import leak
from benchmarks.noise.plants import Trial, _is_seen, as_record, more_flops, other_faults, raised_flops
from persrec import names

BASELINE = PROJECT / "results" / "baselines" / "smoke-cpu.json"


def test_every_planted_fault_is_seen_in_the_committed_baseline():
    baseline = load_baseline(BASELINE)
    plants = [raised_flops(baseline, file_name="baseline"), *other_faults(baseline, file_name="baseline")]
    assert [(one.planted, one.found) for one in plants] == [(one.planted, one.trials) for one in plants]
    assert all(one.trials > 0 for one in plants)
    assert plants[0].trials > 100


def test_what_was_not_changed_is_not_seen():
    baseline = load_baseline(BASELINE)
    for key, entry in baseline.entries.items():
        alone = dataclasses.replace(baseline, entries={key: entry})
        assert not any(_is_seen(Trial(baseline=alone, key=key, metric=name, changed={})) for name in entry.metrics)
        assert not _is_seen(Trial(baseline=baseline, key=key, metric="ndcg@10", changed={}))


def test_a_record_with_more_flops_is_sound_so_that_its_margin_has_to_see_it():
    for key, entry in load_baseline(BASELINE).entries.items():
        for name in entry.metrics:
            if name.endswith("_flops"):
                assert faults(as_record(key, entry.numbers_alone(), more_flops(entry.metrics, name))) == faults(
                    as_record(key, entry.numbers_alone(), {})
                )


def test_without_the_margins_no_more_flops_are_seen(monkeypatch):
    monkeypatch.setattr(type(load_baseline(BASELINE)), "margin", lambda self, metric, number, fingerprint: 1e30)
    assert raised_flops(load_baseline(BASELINE), file_name="").found == 0


def test_a_gate_that_looks_at_nothing_sees_no_plant(monkeypatch):
    monkeypatch.setattr(gate_judge, "faults", lambda record: [])
    monkeypatch.setattr(gate_judge, "_of_differences", lambda baseline, current: [])
    monkeypatch.setattr(gate_judge, "is_gated", lambda name, device: False)
    monkeypatch.setattr(type(load_baseline(BASELINE)), "margin", lambda self, metric, number, fingerprint: 1e30)
    baseline = load_baseline(BASELINE)
    assert all(one.found == 0 for one in (raised_flops(baseline, file_name=""), *other_faults(baseline, file_name="")))


@pytest.mark.usefixtures("one_thread")
def test_a_mask_that_shows_the_next_item_is_seen_in_every_backbone():
    seen = leak.leaks()
    assert seen.found == seen.trials == len(names.backbones()) * len(leak.KERNELS)


@pytest.mark.usefixtures("one_thread")
def test_a_law_that_is_broken_before_anything_was_planted_counts_as_missed(monkeypatch):
    monkeypatch.setattr(leak, "change_before", lambda model: 1.0)
    assert leak.leaks().found == 0
