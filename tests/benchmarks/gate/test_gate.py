import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks import store
from benchmarks.cell import Cell, cell_key
from benchmarks.gate import command as gate
from benchmarks.measures import versions

PASS, REGRESSION, BAD_INPUT, INCOMPLETE, NOT_COMPARABLE = 0, 1, 2, 3, 4
NUMBERS = {"ndcg@10": 0.2, "recall@10": 0.4, "serve_flops": 1_000_000, "cache_bytes": 4096, "serve_latency_p50_ms": 2.0}
Change = Callable[[dict[str, Any]], object]


def record(tokens: int, *, dataset: str = "synthetic", device: str = "cpu", measures: dict[str, int] | None = None) -> dict[str, Any]:
    cell = Cell(backbone="hstu", compression="experts", tokens=tokens, dataset=dataset, device=device)
    measures = measures or versions()
    digest = f"digest of {dataset}"
    return {
        "schema_version": 1,
        "cell_key": cell_key(cell, dataset_digest=digest, versions=measures),
        "status": "ok",
        "cell": cell.to_dict(),
        "code_digest": "code",
        "measure_versions": measures,
        "metrics": {
            **{name: {"value": value, "method": "counted"} for name, value in NUMBERS.items()},
            "serve_energy_j": {"value": None, "method": "no NVML device"},
            "compress_flops": {"value": None, "method": "not this cell"},
        },
        "dataset": {"name": dataset, "size": None, "digest": digest},
        "error": None,
        "environment": {"fingerprint": "machine", "cpu": "a cpu", "packages": {"torch": "2.13.0"}},
        "provenance": {"commit": "0123456789abcdef"},
    }


@dataclass
class Place:
    """A folder of results of three cells, and a baseline made of them."""

    folder: Path
    baseline: Path

    def change(self, tokens: int, change: Change) -> None:
        """Applies ``change`` to the record of that many tokens."""
        for path in store.record_files(self.folder):
            found = json.loads(path.read_text())
            if found["cell"]["tokens"] == tokens:
                change(found)
                path.write_text(json.dumps(found))

    def scale(self, tokens: int, **factors: float) -> None:
        """Multiplies numbers of one record; an underscore before digits stands for the at-sign."""

        def scaled(found: dict[str, Any]) -> None:
            for name, factor in factors.items():
                found["metrics"][name.replace("_at_", "@")]["value"] *= factor

        self.change(tokens, scaled)

    def remove(self, tokens: int) -> None:
        for path in store.record_files(self.folder):
            if json.loads(path.read_text())["cell"]["tokens"] == tokens:
                path.unlink()

    def gate(self, *options: str) -> int:
        return gate.main([str(self.folder), "--baseline", str(self.baseline), *options])

    def findings(self, *options: str) -> tuple[int, list[tuple[str, int, str | None]]]:
        """The exit code and all that is no PASS: verdict, tokens, metric."""
        out = self.folder / "gate.json"
        code = self.gate("--json", str(out), *options)
        content = json.loads(out.read_text())
        assert content["exit_code"] == code
        tokens_of = {found["cell_key"]: found["cell"]["tokens"] for found in map(store.load_record, store.record_files(self.folder))}
        tokens_of |= {key: entry["cell"]["tokens"] for key, entry in json.loads(self.baseline.read_text())["entries"].items()}
        listed = [(found["verdict"], tokens_of[found["cell_key"]], found["metric"]) for found in content["findings"]]
        return code, [found for found in listed if found[0] != "PASS"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(folder=tmp_path / "run", baseline=tmp_path / "baselines" / "run.json")
    for tokens in (0, 4, 8):
        store.write_record(made.folder, record(tokens))
    assert made.gate("--update") == PASS
    return made


def test_a_run_beside_itself_passes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert place.findings() == (PASS, [])
    assert place.gate("--strict") == PASS
    # 3 cells of 4 deterministic numbers each; latency is not compared
    assert "PASS: " in capsys.readouterr().out.splitlines()[-1]
    content = json.loads((place.folder / "gate.json").read_text())
    assert content["counts"] == {"PASS": 12}


def test_five_percent_more_flops_is_a_regression(place: Place) -> None:
    place.scale(4, serve_flops=1.05)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "serve_flops")])


def test_lower_quality_beyond_its_margin_is_a_regression(place: Place) -> None:
    place.scale(4, ndcg_at_10=0.89)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "ndcg@10")])


def test_quality_inside_its_margin_passes(place: Place) -> None:
    place.scale(4, ndcg_at_10=0.91)
    place.scale(8, ndcg_at_10=1.09)
    assert place.findings() == (PASS, [])


def test_timings_of_another_hour_never_gate(place: Place) -> None:
    place.scale(4, serve_latency_p50_ms=10)
    assert place.findings() == (PASS, [])


def test_a_margin_in_the_baseline_wins(place: Place) -> None:
    content = json.loads(place.baseline.read_text())
    content["margins"]["serve_flops"]["relative"] = 0.06
    place.baseline.write_text(json.dumps(content))
    place.scale(4, serve_flops=1.05)
    place.scale(8, serve_flops=1.07)
    assert place.findings() == (REGRESSION, [("REGRESSION", 8, "serve_flops")])
    assert place.gate("--update") == PASS
    assert json.loads(place.baseline.read_text())["margins"]["serve_flops"]["relative"] == 0.06


def test_an_improvement_is_shown_and_strict_asks_for_a_new_baseline(place: Place) -> None:
    place.scale(4, serve_flops=0.9)
    assert place.findings() == (PASS, [("IMPROVED", 4, "serve_flops")])
    assert place.gate("--strict") == REGRESSION


def test_a_saving_bought_with_quality_is_a_regression(place: Place) -> None:
    place.scale(4, serve_flops=0.5, ndcg_at_10=0.8)
    code, findings = place.findings()
    assert code == REGRESSION
    assert sorted(findings) == [("REGRESSION", 4, "ndcg@10"), ("REGRESSION", 4, "serve_flops")]
    reasons = [found["reason"] for found in json.loads((place.folder / "gate.json").read_text())["findings"]]
    assert "bought with quality: ndcg@10 0.2 to 0.16" in reasons


def test_a_saving_beside_a_small_loss_is_ambiguous(place: Place) -> None:
    place.scale(4, serve_flops=0.5, ndcg_at_10=0.94)  # 0.012 of a margin of 0.02
    assert place.findings() == (PASS, [("AMBIGUOUS", 4, "serve_flops")])
    place.scale(8, serve_flops=0.5, ndcg_at_10=0.96)  # 0.008
    assert ("IMPROVED", 8, "serve_flops") in place.findings()[1]


def test_a_missing_cell_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.remove(4)
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, None)])
    assert "hstu/experts history=224+32 tokens=4" in capsys.readouterr().out


def test_a_regression_beside_a_missing_cell_is_still_a_regression(place: Place) -> None:
    place.remove(4)
    place.scale(8, serve_flops=1.05)
    assert place.findings()[0] == REGRESSION


def test_a_new_cell_is_shown(place: Place) -> None:
    store.write_record(place.folder, record(16))
    assert place.findings() == (PASS, [("NEW", 16, None)])
    assert place.gate("--strict") == REGRESSION


def test_a_new_number_is_shown(place: Place) -> None:
    place.change(4, lambda found: found["metrics"]["compress_flops"].update(value=5))
    assert place.findings() == (PASS, [("NEW", 4, "compress_flops")])


def fail(status: str) -> Change:
    def failing(found: dict[str, Any]) -> None:
        found["status"], found["metrics"] = status, {}
        found["error"] = {"phase": "flops", "type": "ValueError", "message": "an op without a price", "log_tail": None}

    return failing


@pytest.mark.parametrize("status", ["crash", "timeout", "invalid", "oom", "unsupported"])
def test_a_cell_that_no_longer_works_is_invalid_and_named(place: Place, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    place.change(4, fail(status))
    assert place.findings() == (INCOMPLETE, [("INVALID", 4, None)])
    assert f"ok in the baseline, now {status} in flops: ValueError: an op without a price" in " ".join(capsys.readouterr().out.split())


def test_a_new_cell_that_crashed_is_invalid(place: Place) -> None:
    store.write_record(place.folder, record(16))
    place.change(16, fail("crash"))
    assert place.findings() == (INCOMPLETE, [("INVALID", 16, None)])


def test_a_finding_of_the_baseline_is_expected(place: Place) -> None:
    place.change(4, fail("oom"))
    assert place.gate("--update") == PASS
    assert place.findings() == (PASS, [])
    place.change(4, lambda found: found.update(status="unsupported"))
    assert place.findings() == (PASS, [("AMBIGUOUS", 4, None)])
    store.write_record(place.folder, record(4))
    assert place.findings() == (PASS, [("IMPROVED", 4, None)])


@pytest.mark.parametrize(
    ("value", "verdict"), [(None, "MISSING"), (float("nan"), "INVALID"), (float("inf"), "INVALID"), ("much", "INVALID")]
)
def test_a_number_that_is_gone_is_not_passed_over(place: Place, value: object, verdict: str) -> None:
    place.change(4, lambda found: found["metrics"]["serve_flops"].update(value=value))
    assert place.findings() == (INCOMPLETE, [(verdict, 4, "serve_flops")])


def test_a_measure_that_is_gone_is_missing(place: Place) -> None:
    place.change(4, lambda found: found["metrics"].pop("serve_flops"))
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, "serve_flops")])


def replace_all(place: Place, **options: Any) -> None:
    for path in store.record_files(place.folder):
        path.unlink()
    for tokens in (0, 4, 8):
        store.write_record(place.folder, record(tokens, **options))


@pytest.mark.parametrize("options", [{"dataset": "ml-1m"}, {"measures": versions() | {"mrr": 2}}, {"device": "cuda"}])
def test_other_data_measures_or_devices_are_not_comparable(place: Place, options: dict[str, Any]) -> None:
    replace_all(place, **options)
    code, findings = place.findings()
    assert code == NOT_COMPARABLE
    assert sorted(findings) == sorted(
        [("INCOMPARABLE", tokens, None) for tokens in (0, 4, 8)] + [("NEW", tokens, None) for tokens in (0, 4, 8)]
    )


def test_the_reason_names_what_differs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    replace_all(place, measures=versions() | {"mrr": 2})
    place.gate("--markdown", str(place.folder / "gate.md"))
    assert "mrr version 1 then, 2 now" in (place.folder / "gate.md").read_text()
    replace_all(place, dataset="ml-1m")
    place.gate("--markdown", str(place.folder / "gate.md"))
    assert "the results are of other data: ml-1m" in (place.folder / "gate.md").read_text()


def test_quality_on_a_gpu_is_not_compared(tmp_path: Path) -> None:
    place = Place(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    store.write_record(place.folder, record(4, device="cuda"))
    place.gate("--update")
    place.scale(4, ndcg_at_10=0.5)
    assert place.findings() == (PASS, [])
    place.scale(4, serve_flops=1.05)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "serve_flops")])


def test_an_empty_folder_is_incomplete(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    junit = tmp_path / "junit.xml"
    assert gate.main([str(tmp_path / "empty"), "--baseline", str(place.baseline), "--junit", str(junit)]) == INCOMPLETE
    assert "nothing was measured" in capsys.readouterr().out
    assert ET.parse(junit).getroot().find("testsuite").get("errors") == "1"  # noqa: S314 - our own file


@pytest.mark.parametrize(
    ("results", "baseline", "part"),
    [("nowhere", "run.json", "nowhere: no such folder"), ("run", "nothing.json", "nothing.json: No such file")],
)
def test_paths_that_are_not_there_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str], results: str, baseline: str, part: str
) -> None:
    capsys.readouterr()
    code = gate.main([str(place.folder.parent / results), "--baseline", str(place.baseline.parent / baseline)])
    out, err = capsys.readouterr()
    assert (code, out) == (BAD_INPUT, "")
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not a whole JSON file"),
        ("[]", "is no baseline"),
        ("{}", "is no baseline"),
        ('{"schema_version": 9, "entries": {}}', "schema version 9"),
        ('{"schema_version": 1, "entries": {}}', "is no baseline: KeyError: 'utc'"),
        ('{"schema_version": 1, "utc": "2026-01-01T00:00:00+00:00", "entries": {"k": {}}}', "is no baseline"),
    ],
)
def test_a_broken_baseline_is_refused(place: Place, capsys: pytest.CaptureFixture[str], content: str, part: str) -> None:
    capsys.readouterr()
    place.baseline.write_text(content)
    assert place.gate() == BAD_INPUT
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


def test_a_broken_record_is_refused_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.record_files(place.folder)[0]
    path.write_bytes(path.read_bytes()[:100])
    assert place.gate() == BAD_INPUT
    assert path.name in capsys.readouterr().err


def test_update_writes_what_was_measured_and_shows_what_changed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    place.scale(4, serve_flops=1.05)
    assert place.gate("--update") == PASS
    out = capsys.readouterr().out
    assert "REGRESSION" in out
    assert "3 cells; review the change" in out
    assert place.findings() == (PASS, [])


def test_update_is_stable(place: Place) -> None:
    def without_time() -> str:
        content = json.loads(place.baseline.read_text())
        del content["utc"]
        return json.dumps(content)

    before = without_time()
    place.gate("--update")
    assert without_time() == before


def test_update_does_not_take_in_a_run_with_a_crash(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.baseline.read_bytes()
    place.change(4, fail("crash"))
    assert place.gate("--update") == INCOMPLETE
    assert "left as it is: 1 of 3 cells have no measurement" in capsys.readouterr().err
    assert place.baseline.read_bytes() == before


def test_a_gate_never_touches_the_baseline(place: Place) -> None:
    before = place.baseline.read_bytes()
    place.scale(4, serve_flops=0.5)
    place.gate("--strict")
    assert place.baseline.read_bytes() == before


def test_the_age_of_the_baseline_is_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(place.baseline.read_text())
    content["utc"] = (datetime.now(UTC) - timedelta(days=40, hours=1)).isoformat()
    place.baseline.write_text(json.dumps(content))
    place.gate()
    assert "(40 days old, commit 0123456789)" in capsys.readouterr().out


def test_another_machine_is_noted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.change(4, lambda found: found["environment"].update(fingerprint="another"))
    place.gate()
    assert "the baseline is from another machine" in capsys.readouterr().out


HOSTILE = 'a <b> & "c" | `d`\nand \x1b[31m \x00 e'


def test_outputs_hold_whatever_a_message_says(place: Place, tmp_path: Path) -> None:
    place.change(4, fail("crash"))
    place.change(4, lambda found: found["error"].update(message=HOSTILE))
    place.scale(8, serve_flops=1.05)
    junit, markdown = tmp_path / "out" / "junit.xml", tmp_path / "out" / "gate.md"
    assert place.gate("--junit", str(junit), "--markdown", str(markdown)) == REGRESSION
    suite = ET.parse(junit).getroot().find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase")) == 4 + 1 + 4
    error = suite.find(".//error")
    assert error is not None
    assert 'a <b> & "c" | `d` and' in error.get("message", "")
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("| INVALID")]
    assert len(rows) == 1
    assert "\\<b\\>" in rows[0]
    assert rows[0].replace("\\|", "").count("|") == 9


def test_strict_failures_are_failures_in_junit_too(place: Place, tmp_path: Path) -> None:
    place.scale(4, serve_flops=0.9)
    junit = tmp_path / "junit.xml"
    place.gate("--junit", str(junit))
    assert ET.parse(junit).getroot().find("testsuite").get("failures") == "0"  # noqa: S314
    place.gate("--junit", str(junit), "--strict")
    assert ET.parse(junit).getroot().find("testsuite").get("failures") == "1"  # noqa: S314


def test_an_output_that_cannot_be_written_is_one_line(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert place.gate("--json", str(place.baseline / "gate.json")) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_cut_off_in_a_pipe(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    place.scale(4, serve_flops=1.05)
    place.gate()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("REGRESSION "))
    for part in ("serve_flops", "1000000", "1050000", "+5.00%", "hstu/experts history=224+32 tokens=4 segments=1 cache seed=1 synthetic"):
        assert part in row
