"""The record of the gates' proof: the committed one is read, and what is none is refused in one line."""

import json
from dataclasses import replace

import pytest

from benchmarks.environment import PROJECT
from benchmarks.noise.record import QualitySpread, load_proof, summary, to_json
from benchmarks.records import RecordError

COMMITTED = PROJECT / "results" / "noise" / "aa.json"


def test_the_committed_record_is_read_and_written_again_alike(tmp_path):
    record = load_proof(COMMITTED)
    path = tmp_path / "aa.json"
    path.write_bytes(to_json(record))
    assert load_proof(path) == record
    written, committed = json.loads(path.read_text()), json.loads(COMMITTED.read_text())
    assert written.keys() >= committed.keys()
    for name, value in committed.items():  # a record that is older than a fact is written with it as unknown
        if isinstance(value, dict):
            assert written[name].items() >= value.items()
        else:
            assert written[name] == value


def test_the_committed_record_proves_the_gates_and_says_so():
    record = load_proof(COMMITTED)
    assert record.holds
    lines = summary(record)
    assert lines[0] == (
        "A against A: 0 false alarms in 300 comparisons, an exact 95% upper bound of 0.99% (allowed: below 1%); "
        "verdicts: 106 AMBIGUOUS and 194 PASS."
    )
    assert lines[1].endswith("in 20 of 20 (95% lower bound 86%).")
    assert lines[-1].startswith("Other processes used 50% of the processors")


def test_no_run_at_all_is_no_proof():
    with pytest.raises(ValueError, match="runs: 0; expected at least 1"):
        replace(load_proof(COMMITTED), runs=0)


def test_too_many_alarms_or_a_margin_that_is_too_narrow_prove_nothing():
    record = load_proof(COMMITTED)
    assert not replace(record, false_alarms=replace(record.false_alarms, upper_bound=0.01)).holds
    narrow = QualitySpread(metric="ndcg@10", numbers=3, moved=1, widest=0.2, widest_share=0.5, beyond_margin=1)
    assert replace(record, qualities=(replace(narrow, beyond_margin=0),)).holds
    assert not replace(record, qualities=(narrow,)).holds


@pytest.mark.parametrize("part", ["slow_down", "flops"])
def test_what_was_planted_and_missed_or_never_tried_proves_nothing(part):
    record = load_proof(COMMITTED)
    trials = getattr(record, part).trials
    for change in ({"found": trials - 1}, {"found": 0, "trials": 0}):
        assert not replace(record, **{part: replace(getattr(record, part), **change)}).holds
        assert not replace(record, plants=(replace(record.flops, **change),)).holds


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not a whole JSON file"),
        ("[" * 5000, "not a whole JSON file"),
        ("[]", "is no record of benchmarks.noise"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1}', "missing required field `provenance`"),
    ],
)
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path, text, part):
    path = tmp_path / "aa.json"
    assert load_proof(path) is None
    path.write_text(text)
    with pytest.raises(RecordError, match=f"^[^\n]*aa.json: [^\n]*{part}[^\n]*$"):
        load_proof(path)
