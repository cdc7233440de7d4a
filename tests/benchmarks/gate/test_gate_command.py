"""The gate's command line, on a folder of small records beside a baseline made of them."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gated_run import BAD_INPUT, COMMIT, INCOMPLETE, NOT_COMPARABLE, PASS, REGRESSION, GatedRun, fail, machine, record

from benchmarks.environment import PROJECT
from benchmarks.gate import command as gate
from benchmarks.measures import versions
from benchmarks.records import record_files


@pytest.fixture
def place(tmp_path: Path) -> GatedRun:
    return GatedRun.of(tmp_path)


def test_a_run_beside_itself_passes(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert place.findings() == (PASS, [])
    assert place.gate("--strict") == PASS
    # 3 cells of 4 deterministic numbers each; latency is not compared
    assert "PASS: " in capsys.readouterr().out.splitlines()[-1]
    content = json.loads((place.folder / "gate.json").read_text())
    assert content["counts"] == {"PASS": 12}


def test_five_percent_more_flops_is_a_regression(place: GatedRun) -> None:
    place.scale(4, serve_flops=1.05)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "serve_flops")])


def test_lower_quality_beyond_its_margin_is_a_regression(place: GatedRun) -> None:
    place.scale(4, ndcg_at_10=0.94)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "ndcg@10")])


def test_quality_inside_its_margin_passes(place: GatedRun) -> None:
    place.elsewhere()
    place.scale(4, ndcg_at_10=0.96)
    place.scale(8, ndcg_at_10=1.04)
    assert place.findings() == (PASS, [])


def test_timings_of_another_hour_never_gate(place: GatedRun) -> None:
    place.scale(4, serve_latency_p50_ms=10)
    assert place.findings() == (PASS, [])


def test_a_margin_in_the_baseline_wins(place: GatedRun) -> None:
    content = json.loads(place.baseline.read_text())
    content["margins"]["serve_flops"]["relative"] = 0.06
    place.baseline.write_text(json.dumps(content))
    place.scale(4, serve_flops=1.05)
    place.scale(8, serve_flops=1.07)
    assert place.findings() == (REGRESSION, [("REGRESSION", 8, "serve_flops")])
    assert place.gate("--update") == PASS
    assert json.loads(place.baseline.read_text())["margins"]["serve_flops"]["relative"] == 0.06


def test_an_improvement_is_shown_and_strict_asks_for_a_new_baseline(place: GatedRun) -> None:
    place.scale(4, serve_flops=0.9)
    assert place.findings() == (PASS, [("IMPROVED", 4, "serve_flops")])
    assert place.gate("--strict") == REGRESSION


def test_a_saving_bought_with_quality_is_a_regression(place: GatedRun) -> None:
    place.scale(4, serve_flops=0.5, ndcg_at_10=0.8)
    code, findings = place.findings()
    assert code == REGRESSION
    assert sorted(findings) == [("REGRESSION", 4, "ndcg@10"), ("REGRESSION", 4, "serve_flops")]
    reasons = [found["reason"] for found in json.loads((place.folder / "gate.json").read_text())["findings"]]
    assert "bought with quality: ndcg@10 0.2 to 0.16" in reasons


def test_a_saving_beside_a_small_loss_is_ambiguous(place: GatedRun) -> None:
    place.elsewhere()
    place.scale(4, serve_flops=0.5, ndcg_at_10=0.97)  # 0.006 of a margin of 0.01
    assert place.findings() == (PASS, [("AMBIGUOUS", 4, "serve_flops")])
    place.scale(8, serve_flops=0.5, ndcg_at_10=0.98)  # 0.004
    assert ("IMPROVED", 8, "serve_flops") in place.findings()[1]


def test_a_missing_cell_is_named(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.remove(4)
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, None)])
    assert "HSTU · PerSRec, 4 tokens" in capsys.readouterr().out


def test_a_regression_beside_a_missing_cell_is_still_a_regression(place: GatedRun) -> None:
    place.remove(4)
    place.scale(8, serve_flops=1.05)
    assert place.findings()[0] == REGRESSION


def test_a_new_cell_is_shown(place: GatedRun) -> None:
    place.add(record(16))
    assert place.findings() == (PASS, [("NEW", 16, None)])
    assert place.gate("--strict") == REGRESSION


def test_a_new_number_is_shown(place: GatedRun) -> None:
    place.change(4, lambda values: values["metrics"].update(parameters={"value": 5}))
    assert place.findings() == (PASS, [("NEW", 4, "parameters")])


@pytest.mark.parametrize("status", ["crash", "timeout", "invalid", "oom", "unsupported"])
def test_a_cell_that_no_longer_works_is_invalid_and_named(place: GatedRun, status: str, capsys: pytest.CaptureFixture[str]) -> None:
    place.change(4, fail(status))
    assert place.findings() == (INCOMPLETE, [("INVALID", 4, None)])
    assert f"ok in the baseline, now {status} in flops: ValueError: an op without a price" in " ".join(capsys.readouterr().out.split())


def test_a_new_cell_that_crashed_is_invalid(place: GatedRun) -> None:
    place.add(record(16))
    place.change(16, fail("crash"))
    assert place.findings() == (INCOMPLETE, [("INVALID", 16, None)])


def test_a_finding_of_the_baseline_is_expected(place: GatedRun) -> None:
    place.change(4, fail("oom"))
    assert place.gate("--update") == PASS
    assert place.findings() == (PASS, [])
    place.change(4, fail("unsupported"))
    assert place.findings() == (PASS, [("AMBIGUOUS", 4, None)])
    place.add(record(4))
    assert place.findings() == (PASS, [("IMPROVED", 4, None)])


def test_a_number_that_is_gone_is_not_passed_over(place: GatedRun) -> None:
    place.change(4, lambda values: values["metrics"]["serve_flops"].update(value=None))
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, "serve_flops")])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", True, [], {}])
def test_what_is_no_number_is_refused_by_the_name_of_its_file(place: GatedRun, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    place.change(4, lambda values: values["metrics"]["serve_flops"].update(value=value))
    capsys.readouterr()
    assert place.gate() == BAD_INPUT
    err = capsys.readouterr().err
    assert (err.count("\n"), str(place.folder / "cells") in err) == (1, True)


def test_a_measure_that_is_gone_is_missing(place: GatedRun) -> None:
    place.change(4, lambda values: values["metrics"].pop("serve_flops"))
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, "serve_flops")])


@pytest.mark.parametrize("options", [{"dataset": "ml-1m"}, {"measures": versions() | {"mrr": 2}}, {"device": "cuda"}])
def test_other_data_measures_or_devices_are_not_comparable(place: GatedRun, options: dict[str, Any]) -> None:
    place.replace_all(**options)
    code, findings = place.findings()
    assert code == NOT_COMPARABLE
    assert sorted(findings) == sorted(
        [("INCOMPARABLE", tokens, None) for tokens in (0, 4, 8)] + [("NEW", tokens, None) for tokens in (0, 4, 8)]
    )


def test_the_reason_names_what_differs(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.replace_all(measures=versions() | {"mrr": 2})
    place.gate("--markdown", str(place.folder / "gate.md"))
    assert "mrr version 1 then, 2 now" in (place.folder / "gate.md").read_text()
    place.replace_all(dataset="ml-1m")
    place.gate("--markdown", str(place.folder / "gate.md"))
    assert "the results are of other data: ml-1m" in (place.folder / "gate.md").read_text()


def test_quality_on_a_gpu_is_not_compared(tmp_path: Path) -> None:
    place = GatedRun(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    place.add(record(4, device="cuda"))
    place.gate("--update")
    place.scale(4, ndcg_at_10=0.5, recall_at_10=0.5)
    assert place.findings() == (PASS, [])
    place.scale(4, serve_flops=1.05)
    assert place.findings() == (REGRESSION, [("REGRESSION", 4, "serve_flops")])


def test_an_empty_folder_is_incomplete(place: GatedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    place: GatedRun, capsys: pytest.CaptureFixture[str], results: str, baseline: str, part: str
) -> None:
    capsys.readouterr()
    code = gate.main([str(place.folder.parent / results), "--baseline", str(place.baseline.parent / baseline)])
    out, err = capsys.readouterr()
    assert (code, out) == (BAD_INPUT, "")
    assert part in err
    assert err.count("\n") == 1


def test_a_broken_record_is_refused_by_name(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    path = record_files(place.folder)[0]
    path.write_bytes(path.read_bytes()[:100])
    assert place.gate() == BAD_INPUT
    assert path.name in capsys.readouterr().err


def outcome(place: GatedRun, *options: str) -> tuple[int, str, dict[str, int], tuple[str | None, str | None]]:
    """The exit code, the headline, the counts, and JUnit's failures and errors: all outputs of one call."""
    junit, markdown, out = (place.folder / name for name in ("gate.xml", "gate.md", "gate.json"))
    code = place.gate(*options, "--junit", str(junit), "--markdown", str(markdown), "--json", str(out))
    content = json.loads(out.read_text())
    assert content["exit_code"] == code
    assert markdown.read_text().startswith(f"# {content['headline'].split(':')[0]}")
    suite = ET.parse(junit).getroot().find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    return code, content["headline"], content["counts"], (suite.get("failures"), suite.get("errors"))


def test_every_output_of_a_new_baseline_says_that_it_was_written(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.baseline.unlink()
    code, headline, counts, junit = outcome(place, "--update")
    assert (code, counts, junit) == (PASS, {"NEW": 3}, ("0", "0"))
    assert headline == f"BASELINE WRITTEN: {place.folder} beside {place.baseline} (new): 3 NEW"
    assert f"wrote {place.baseline}: 3 cells" in capsys.readouterr().out
    assert place.findings() == (PASS, [])


def test_every_output_of_an_update_says_that_it_was_written_and_shows_what_changed(place: GatedRun) -> None:
    place.scale(4, serve_flops=1.05)
    code, headline, counts, junit = outcome(place, "--update", "--strict")
    assert (code, counts, junit) == (PASS, {"REGRESSION": 1, "PASS": 11}, ("0", "0"))
    assert headline.startswith("BASELINE WRITTEN: ")
    assert place.findings() == (PASS, [])


def test_every_output_of_an_update_that_is_refused_says_so(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.baseline.read_bytes()
    place.scale(8, serve_flops=1.05)
    place.change(4, fail("crash"))
    code, headline, _, junit = outcome(place, "--update")
    assert (code, headline.split(":")[0], junit) == (REGRESSION, "REGRESSION", ("1", "1"))  # beside what is missing it stays one
    assert "left as it is: 1 of 3 cells have no measurement" in capsys.readouterr().err
    assert place.baseline.read_bytes() == before


def test_records_that_cannot_be_true_make_no_baseline(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.baseline.read_bytes()
    place.change(4, lambda values: values["metrics"]["recall@10"].update(value=1.7))
    assert outcome(place, "--update")[0] == INCOMPLETE
    err = capsys.readouterr().err
    assert "left as it is: 1 of 3 records cannot be true, the first of them " in err
    assert "1.7 is out of range; expected 0 to 1" in err
    assert place.baseline.read_bytes() == before


def test_nothing_makes_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    place = GatedRun(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    assert outcome(place, "--update")[0] == INCOMPLETE
    assert "left as it is: nothing was measured" in capsys.readouterr().err
    assert not place.baseline.exists()


def test_update_is_stable(place: GatedRun) -> None:
    def without_time() -> str:
        content = json.loads(place.baseline.read_text())
        del content["utc"]
        return json.dumps(content)

    before = without_time()
    place.gate("--update")
    assert without_time() == before


def test_a_gate_never_touches_the_baseline(place: GatedRun) -> None:
    before = place.baseline.read_bytes()
    place.scale(4, serve_flops=0.5)
    place.gate("--strict")
    assert place.baseline.read_bytes() == before


def test_the_age_of_the_baseline_is_shown(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(place.baseline.read_text())
    content["utc"] = (datetime.now(UTC) - timedelta(days=40, hours=1)).isoformat()
    place.baseline.write_text(json.dumps(content))
    place.gate()
    assert f"(40 days old, commit {COMMIT[:10]})" in capsys.readouterr().out


def test_another_machine_is_noted(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.change(4, lambda values: values["quality"].update(environment=machine("another cpu")))
    place.gate()
    assert "the baseline is from another machine" in capsys.readouterr().out


HOSTILE = 'a <b> & "c" | `d`\nand \x1b[31m \x00 e'


def test_outputs_hold_whatever_a_message_says(place: GatedRun, tmp_path: Path) -> None:
    place.change(4, fail("crash"))
    place.change(4, lambda values: values["error"].update(message=HOSTILE))
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


def test_strict_failures_are_failures_in_junit_too(place: GatedRun, tmp_path: Path) -> None:
    place.scale(4, serve_flops=0.9)
    junit = tmp_path / "junit.xml"
    place.gate("--junit", str(junit))
    assert ET.parse(junit).getroot().find("testsuite").get("failures") == "0"  # noqa: S314
    place.gate("--junit", str(junit), "--strict")
    assert ET.parse(junit).getroot().find("testsuite").get("failures") == "1"  # noqa: S314


def test_results_of_more_than_one_code_are_noted(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    place.add(record(4) | {"cell_key": "another"})
    place.change(4, lambda values: values["cell"].update(seed=len(values["cell_key"])))
    place.gate()
    assert "more than one version" not in capsys.readouterr().out
    place.change(4, lambda values: values["cost"]["code"].update(flops=values["cell_key"]))
    place.gate()
    assert "more than one version of the code" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--json", "{folder}"], "--json: {folder} is a folder"),
        (["--markdown", "{baseline}"], "--markdown: {baseline} is also the file of --baseline"),
        (["--junit", "{folder}/out", "--json", "{folder}/../run/out"], "is also the file of --junit"),
        (["--json", "{folder}/" + "n" * 300], "File name too long"),
    ],
)
def test_an_output_in_a_place_that_cannot_be_meant_is_refused(
    place: GatedRun, options: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def filled(text: str) -> str:
        return text.format(folder=place.folder, baseline=place.baseline)

    before = sorted(place.folder.parent.rglob("*"))
    capsys.readouterr()
    assert place.gate(*map(filled, options)) == BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), filled(part) in err) == ("", 1, True)
    assert sorted(place.folder.parent.rglob("*")) == before


def test_a_reader_that_goes_away_changes_no_exit_code(place: GatedRun) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "benchmarks.gate", str(place.folder), "--baseline", str(place.baseline)]
    process = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (PASS, b"")


def test_an_output_that_cannot_be_written_is_one_line(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert place.gate("--json", str(place.baseline / "gate.json")) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_cut_off_in_a_pipe(place: GatedRun, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    place.scale(4, serve_flops=1.05)
    place.gate()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("REGRESSION "))
    for part in ("serve_flops", "1,000,000", "1,050,000", "+5.0%", "HSTU · PerSRec, 4 tokens"):
        assert part in row
