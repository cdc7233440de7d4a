"""The record of the kernels: the committed one is read, and what is none is refused in one line."""

import json

import pytest

from benchmarks.environment import PROJECT
from benchmarks.kernels.record import load_kernels, to_json
from benchmarks.records import RecordError

COMMITTED = PROJECT / "results" / "kernels" / "cpu.json"


def test_the_committed_record_is_read_and_written_again_alike(tmp_path):
    timings = load_kernels(COMMITTED)
    path = tmp_path / "cpu.json"
    path.write_bytes(to_json(timings))
    assert load_kernels(path) == timings
    written, committed = json.loads(path.read_text()), json.loads(COMMITTED.read_text())
    for name in ("settings", "machine", "environment", "schema_version"):
        assert written[name] == committed[name]
    assert written["provenance"].items() >= committed["provenance"].items()
    for row, before in zip(written["rows"], committed["rows"], strict=True):
        assert row.items() >= before.items()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not a whole JSON file"),
        ("[" * 5000, "not a whole JSON file"),
        ("[]", "is no record of benchmarks.kernels"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "missing required field `settings`"),
    ],
)
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path, text, part):
    path = tmp_path / "cpu.json"
    assert load_kernels(path) is None
    path.write_text(text)
    with pytest.raises(RecordError, match=f"^[^\n]*cpu.json: [^\n]*{part}[^\n]*$"):
        load_kernels(path)
