"""The baseline's file: what is read is written again alike, and what is broken is refused in one line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabricated_records import fabricate
from gated_run import BAD_INPUT, GatedRun, record
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cell import Cell
from benchmarks.environment import PROJECT
from benchmarks.findings import Line, Sheet, as_json, junit, markdown
from benchmarks.gate.baseline import Baseline, load_baseline, quality_machine
from benchmarks.gate.judge import judge
from benchmarks.keys import cell_key
from benchmarks.records import Record, RecordError, read_record, record_of

COMMITTED = PROJECT / "results" / "baselines" / "smoke-cpu.json"
STRANGE = (
    None, True, False, [], {}, "", "n" * 300, "ok", "\x1b[31m", 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf"),
    [[]], {"a": {}}, "2026-01-01", "9999-12-31T23:59:59+00:00",
)  # fmt: skip


def records() -> list[Record]:
    return [record_of(record(tokens)) for tokens in (0, 4, 8)]


def test_the_committed_baseline_is_written_again_byte_by_byte() -> None:
    assert load_baseline(COMMITTED).to_json() == COMMITTED.read_bytes()


def test_the_keys_of_the_committed_baseline_are_those_of_its_cells() -> None:
    for key, entry in load_baseline(COMMITTED).entries.items():
        assert cell_key(entry.cell, dataset_digest=entry.dataset.digest or "", versions=entry.measure_versions) == key


@pytest.fixture
def place(tmp_path: Path) -> GatedRun:
    return GatedRun.of(tmp_path)


def refused(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> str:
    """What the gate says on the standard error; its exit code and form are checked."""
    capsys.readouterr()
    assert place.gate() == BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(place.baseline) in err
    return err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a whole JSON file"),
        ("{", "not a whole JSON file"),
        ("NaN", "not a whole JSON file"),
        ("[" * 5000, "not a whole JSON file"),
        ('{"a":' * 5000, "not a whole JSON file"),
        ("\udc80", "not a whole JSON file"),
        ("1" * 5000, "not a whole JSON file"),
        ("[]", "is no baseline"),
        ("{}", "is no baseline"),
        ('{"schema_version": true, "entries": {}}', "is no baseline"),
        ('{"schema_version": 9, "entries": {}}', "schema version 9"),
        ('{"schema_version": 1, "entries": {}}', "missing required field `utc`"),
        ('{"schema_version": 1, "utc": "soon", "entries": {}}', "is no baseline"),
        ('{"schema_version": 1, "utc": "2026-01-01", "entries": {}}', "utc: 2026-01-01 has no time zone"),
        ('{"schema_version": 1, "utc": "2026-01-01T00:00:00+00:00", "entries": {"k": {}}}', "missing required field `cell`"),
    ],
)
def test_a_file_that_is_none_is_refused(place: GatedRun, capsys: pytest.CaptureFixture[str], text: str, part: str) -> None:
    place.baseline.write_bytes(text.encode(errors="surrogateescape"))
    assert part in refused(place, capsys)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda content: content.update(source=[]), "`$.source`"),
        (lambda content: content["margins"]["ndcg@10"].update(relative=-0.1), "relative: -0.1"),
        (lambda content: content["margins"]["ndcg@10"].pop("absolute"), "`absolute`"),
        (lambda content: first(content).update(dataset=None), "dataset`"),
        (lambda content: first(content)["dataset"].update(digest=None), "dataset: no digest"),
        (lambda content: first(content)["dataset"].update(digest=""), "this key is not that of its settings"),
        (lambda content: first(content).update(holds=["luck"]), "'luck'"),
        (lambda content: first(content).update(status="well"), "'well'"),
        (lambda content: first(content)["metrics"].update({"ndcg@10": 10**400}), "beyond"),
        (lambda content: first(content)["metrics"].update({"ndcg@10": "0.1"}), "got `str`"),
        (lambda content: first(content)["cell"].update(colour="red"), "no such setting 'colour'"),
        (lambda content: first(content)["cell"].update(recent=0), "recent: 0 is less than 1"),
    ],
)
def test_a_value_that_cannot_be_is_named(place: GatedRun, capsys: pytest.CaptureFixture[str], change: Any, part: str) -> None:
    content = json.loads(place.baseline.read_text())
    change(content)
    place.baseline.write_text(json.dumps(content))
    assert part in refused(place, capsys)


def test_a_baseline_from_before_it_said_what_records_hold_keeps_its_bytes(place: GatedRun) -> None:
    content = json.loads(place.baseline.read_text())
    assert [entry.pop("holds") for entry in content["entries"].values()] == [["quality", "cost"]] * 3
    place.baseline.write_bytes(json.dumps(content, indent=1).encode() + b"\n")
    assert load_baseline(place.baseline).to_json() == place.baseline.read_bytes()


def first(content: dict[str, Any]) -> dict[str, Any]:
    """The first entry of a baseline's content."""
    entry: dict[str, Any] = next(iter(content["entries"].values()))
    return entry


def test_a_place_that_is_no_file_is_refused(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.baseline.unlink()
    assert "No such file or directory; expected a baseline (--update writes one)" in refused(place, capsys)
    place.baseline.mkdir()
    assert "Is a directory" in refused(place, capsys)
    place.baseline.rmdir()
    place.baseline.symlink_to(place.baseline.name)
    assert "Too many levels of symbolic links" in refused(place, capsys)
    assert place.gate("--update") == BAD_INPUT  # a link is not taken for a baseline that is to be made
    assert place.baseline.is_symlink()
    place.baseline = place.baseline.with_name("n" * 300)
    assert "File name too long" in refused(place, capsys)
    assert place.gate("--update") == BAD_INPUT


def paths(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in JSON content."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path] * bool(path) + [deeper for key, value in inside for deeper in paths(value, (*path, key))]


def mutated(content: Any, path: tuple[Any, ...], value: object, *, drops: bool) -> Any:
    """A copy with another value at a place, or without it."""
    content = json.loads(json.dumps(content))
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    if drops:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return content


def every_output(baseline: Baseline, of: list[Record]) -> None:
    """Judges and renders all."""
    findings = judge(baseline, of)
    lines = [
        Line(verdict=finding.verdict, cell_key=finding.cell_key, cell=finding.cell, metric=finding.metric, values=(), reason=finding.reason)
        for finding in findings
    ]
    sheet = Sheet(program="p", subject="s", headings=(), lines=lines, notes=(), exit_code=0, strict=False, content={})
    for rendered in (junit, markdown, as_json):
        rendered(sheet).encode()
    assert baseline.age_days() >= 0
    baseline.to_json()


def read_or_refused(read: Callable[[Path], Any], file: Path) -> Any:
    """What a reader makes of a file, or ``None`` where it refuses it in one line that names the file."""
    try:
        return read(file)
    except RecordError as error:
        message = str(error)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return None


BASELINE = json.loads(Baseline.of(records(), margins={}).to_json())
RECORD = record(4)


@given(path=st.sampled_from(paths(BASELINE)), value=st.sampled_from(STRANGE), drops=st.booleans())
def test_a_mutated_baseline_is_refused_or_compared(tmp_path_factory: pytest.TempPathFactory, path: Any, value: object, drops: bool) -> None:
    file = tmp_path_factory.getbasetemp() / "mutated.json"
    file.write_text(json.dumps(mutated(BASELINE, path, value, drops=drops)))
    baseline = read_or_refused(load_baseline, file)
    if baseline is not None:
        every_output(baseline, records())


@given(path=st.sampled_from(paths(RECORD)), value=st.sampled_from(STRANGE), drops=st.booleans())
def test_a_mutated_record_is_refused_or_compared(tmp_path_factory: pytest.TempPathFactory, path: Any, value: object, drops: bool) -> None:
    file = tmp_path_factory.getbasetemp() / f"{RECORD['cell_key']}.json"
    file.write_text(json.dumps(mutated(RECORD, path, value, drops=drops)))
    changed = read_or_refused(read_record, file)
    if changed is not None:
        every_output(Baseline.of(records(), margins={}), [changed])
        every_output(Baseline.of([changed], margins={}), records())


@given(start=st.integers(0, 2000), length=st.integers(0, 50), middle=st.binary(max_size=8))
def test_a_baseline_with_other_bytes_in_it_is_refused_or_compared(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, middle: bytes
) -> None:
    content, file = json.dumps(BASELINE).encode(), tmp_path_factory.getbasetemp() / "bytes.json"
    file.write_bytes(content[:start] + middle + content[start + length :])
    baseline = read_or_refused(load_baseline, file)
    if baseline is not None:
        every_output(baseline, records())


def test_a_quality_whose_model_another_machine_trained_is_of_both() -> None:
    record = record_of(fabricate(Cell(backbone="hstu", compression="full")))
    here, model = record.quality.environment.fingerprint, record.model
    trained_on = {None: here, here: here, "b": f"{here} b"}
    for machine, expected in trained_on.items():
        assert quality_machine(dataclasses.replace(record, model=dataclasses.replace(model, machine=machine))) == expected


def test_a_baseline_of_several_machines_holds_nobody_to_the_bit() -> None:
    entry = load_baseline(COMMITTED)
    [here] = entry.source.fingerprints
    assert entry.margin("ndcg@10", 0.3, fingerprint=here) == pytest.approx(3e-10)
    merged = dataclasses.replace(entry, source=dataclasses.replace(entry.source, fingerprints=(here, "another")))
    assert merged.margin("ndcg@10", 0.3, fingerprint=here) == entry.margin("ndcg@10", 0.3, fingerprint="another") > 1e-3
