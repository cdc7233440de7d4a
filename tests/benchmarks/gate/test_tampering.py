"""Records that were changed by hand, or come from a broken method: the gate sees each, whatever the record says of itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gated_run import INCOMPLETE, PASS, REGRESSION, machine, record_of_cell

from benchmarks.cell import Cell
from benchmarks.gate import command as gate
from benchmarks.gate import validity
from benchmarks.records import record_files

HERE, ELSEWHERE = machine(), machine("another cpu")
PERSREC = Cell(backbone="hstu", compression="experts", tokens=4)
QUALITY = {  # NDCG@10
    "persrec": (PERSREC, 0.60),
    "no token": (Cell(backbone="hstu", compression="experts", tokens=0), 0.38),
    "other user": (Cell(backbone="hstu", compression="experts", tokens=4, ablation="other_user"), 0.25),
    "random tokens": (Cell(backbone="hstu", compression="experts", tokens=4, ablation="random_tokens"), 0.24),
    "pooling": (Cell(backbone="hstu", compression="pooling", tokens=4), 0.41),
    "sasrec": (Cell(backbone="sasrec", compression="experts", tokens=4), 0.57),
}
Change = Callable[[dict[str, Any]], object]


class Sweep:
    """A run on disk and the baseline of it."""

    def __init__(self, place: Path) -> None:
        self.folder, self.baseline = place / "run", place / "baseline.json"
        (self.folder / "cells").mkdir(parents=True)
        for cell, ndcg in QUALITY.values():
            values = record_of_cell(cell)
            values["metrics"] |= {name: {"value": ndcg * share} for name, share in (("ndcg@10", 1.0), ("ndcg@5", 0.9), ("recall@10", 1.2))}
            values["metrics"] |= {"serve_peak_bytes": {"value": 3 * 2**23}, "train_peak_bytes": {"value": 2**25}}
            values["model"] = {"key": self.model_key(values), "epochs": 3, "best_epoch": 2, "best_validation": ndcg, "train_seconds": 2.0}
            values["model"] |= {"cached_joint_gap": 3e-8}
            (self.folder / "cells" / f"{values['cell_key']}.json").write_text(json.dumps(values))
        assert self.gate("--update") == PASS

    @staticmethod
    def model_key(values: dict[str, Any]) -> str:
        from benchmarks.keys import model_key

        return model_key(Cell.from_dict(values["cell"]), dataset_digest=values["dataset"]["digest"])

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in record_files(self.folder):
            yield path, json.loads(path.read_text())

    def change(self, change: Change, *names: str) -> None:
        """Changes the records of these cells, or of all."""
        cells = [QUALITY[name][0].to_dict() for name in names or QUALITY]
        for path, values in self.records():
            if values["cell"] in cells:
                change(values)
                path.write_text(json.dumps(values))

    def elsewhere(self) -> None:
        """As if measured on a machine that the baseline does not know."""

        def move(values: dict[str, Any]) -> None:
            values["quality"]["environment"] = ELSEWHERE

        self.change(move)

    def gate(self, *options: str) -> int:
        return gate.main([str(self.folder), "--baseline", str(self.baseline), *options])

    def regressions(self) -> set[str]:
        """The measures that the gate names."""
        self.gate("--json", str(self.folder / "gate.json"))
        findings = json.loads((self.folder / "gate.json").read_text())["findings"]
        return {finding["metric"] for finding in findings if finding["verdict"] == "REGRESSION"}

    def reasons(self) -> str:
        self.gate("--json", str(self.folder / "gate.json"))
        findings = json.loads((self.folder / "gate.json").read_text())["findings"]
        return "\n".join(finding["reason"] for finding in findings if finding["verdict"] != "PASS")


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def scaled(factor: float, *, only: tuple[str, ...] = ("@",)) -> Change:
    def change(values: dict[str, Any]) -> None:
        for name, metric in values["metrics"].items():
            if any(part in name for part in only) and metric["value"] is not None:
                metric["value"] *= factor

    return change


def test_the_run_itself_passes_here_and_elsewhere(sweep: Sweep) -> None:
    assert sweep.gate("--strict") == PASS
    sweep.elsewhere()
    assert sweep.gate("--strict") == PASS


@pytest.mark.parametrize(
    ("other", "place"),
    [
        *((other, HERE) for other in ("random tokens", "other user", "pooling", "sasrec", "no token")),
        *((other, ELSEWHERE) for other in ("random tokens", "other user", "pooling", "no token")),  # a near rival is told here alone
    ],
)
def test_persrecs_quality_exchanged_for_anothers_is_a_regression(sweep: Sweep, other: str, place: dict[str, Any]) -> None:
    given = next(values for _, values in sweep.records() if values["cell"] == QUALITY[other][0].to_dict())
    if place is ELSEWHERE:
        sweep.elsewhere()

    def exchange(values: dict[str, Any]) -> None:
        values["metrics"] |= {name: metric for name, metric in given["metrics"].items() if "@" in name}

    sweep.change(exchange, "persrec")
    assert sweep.gate() == REGRESSION
    assert "ndcg@10" in sweep.regressions()


@pytest.mark.parametrize("factor", [0.905, 0.99, 1 - 1e-6])
def test_a_fall_of_every_quality_is_a_regression_on_the_machine_of_the_baseline(sweep: Sweep, factor: float) -> None:
    sweep.change(scaled(factor))
    assert sweep.gate() == REGRESSION
    assert sweep.regressions() == {"ndcg@5", "ndcg@10", "recall@10"}


@pytest.mark.parametrize("factor", [0.905, 0.94])
def test_a_fall_of_every_quality_is_a_regression_on_any_machine(sweep: Sweep, factor: float) -> None:
    sweep.elsewhere()
    sweep.change(scaled(factor))
    assert sweep.gate() == REGRESSION
    assert "ndcg@10" in sweep.regressions()


def test_tokens_that_lost_half_of_what_they_carried_are_a_regression_with_the_reason(sweep: Sweep) -> None:
    sweep.elsewhere()

    def weaken(values: dict[str, Any]) -> None:
        values["metrics"]["ndcg@10"]["value"] = 0.48  # above every rival, but no longer by far
        values["metrics"]["ndcg@5"]["value"] = 0.45

    sweep.change(weaken, "persrec")
    assert sweep.gate() == REGRESSION
    assert "ndcg@10 above no token: +0.2200 in the baseline, +0.1000 now; expected +0.1100 at least" in sweep.reasons()


def kept_under_its_key(part: str, name: str, value: object) -> Change:
    def change(values: dict[str, Any]) -> None:
        values[part][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (kept_under_its_key("cell", "seed", 2), "its key is not that of its settings, its data and its measures' versions"),
        (kept_under_its_key("cell", "device", "cuda"), "its key is not that of its settings"),
        (kept_under_its_key("cell", "tokens", 8), "its key is not that of its settings"),
        (kept_under_its_key("dataset", "digest", "other data"), "its key is not that of its settings"),
        (kept_under_its_key("measure_versions", "serve_energy_j", 7), "its key is not that of its settings"),
        (kept_under_its_key("quality", "key", "another"), "its quality is of another key"),
        (kept_under_its_key("model", "key", "another"), "its model is of another key"),
        (kept_under_its_key("quality", "status", "crash"), "its status is ok, and those of its halves are crash, ok"),
        (kept_under_its_key("model", "cached_joint_gap", 0.5), "scores from the cache differ from the joint pass by 0.5; expected 1e-05"),
        (kept_under_its_key("model", "cached_joint_gap", -1.0), "differ from the joint pass by -1"),
        (scaled(1.7 / 0.72, only=("recall@10",)), "1.7 is out of range; expected 0 to 1"),
        (scaled(-1, only=("cache_bytes",)), "-4096 is out of range; expected 0 or more"),
        (scaled(0.1, only=("recall@10",)), "which it can never be"),
        (scaled(0.5, only=("serve_flops",)), "and the ledger's total is 1e+06"),
    ],
)
def test_what_cannot_be_true_is_invalid_with_the_reason(sweep: Sweep, change: Change, reason: str) -> None:
    sweep.change(change, "persrec")
    assert sweep.gate() in (REGRESSION, INCOMPLETE)
    assert reason in sweep.reasons()


def all_of(*changes: Change) -> Change:
    def change(values: dict[str, Any]) -> None:
        for one in changes:
            one(values)

    return change


def put(**values: Any) -> Change:
    return lambda record: record.update(values)


@pytest.mark.parametrize("data", [put(dataset=None), kept_under_its_key("dataset", "digest", "")])
@pytest.mark.parametrize(
    ("settings", "moves"),
    [({"seed": 2}, "seed 1 then, 2 now"), ({"backbone": "sasrec", "seed": 2}, "backbone hstu then, sasrec now, seed 1 then, 2 now")],
)
def test_other_settings_are_seen_where_no_key_can_be_made_anew(sweep: Sweep, data: Change, settings: dict[str, Any], moves: str) -> None:
    sweep.change(data)
    assert sweep.gate() == INCOMPLETE
    assert "it has numbers, and no digest of the data that they are of" in sweep.reasons()
    assert "other data than the baseline's under one key: synthetic (size None, digest digest of sy) then" in sweep.reasons()
    sweep.change(lambda values: values["cell"].update(settings), "persrec")
    assert sweep.gate() == INCOMPLETE
    assert f"other settings than the baseline's under one key: {moves}" in sweep.reasons()


@pytest.mark.parametrize(("name", "value"), [("name", "ml-1m"), ("size", "tiny")])
def test_data_are_those_of_the_cell(sweep: Sweep, name: str, value: str) -> None:
    sweep.change(kept_under_its_key("dataset", name, value), "persrec")
    assert sweep.gate() == INCOMPLETE
    assert "its data are " in sweep.reasons()


def test_a_models_key_is_made_anew_also_where_qualities_are_measured_in_another_way_now(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validity, "versions_of", lambda kinds, **_: {"ndcg@10": 7})
    assert sweep.gate() == PASS
    sweep.change(kept_under_its_key("model", "key", "another"), "persrec")
    assert sweep.gate() == INCOMPLETE


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (
            kept_under_its_key("model", "cached_joint_gap", None),
            ["the difference of scores from the cache and from the joint pass is gone"],
        ),
        (put(model=None), ["its trained model is gone", "the difference of scores from the cache"]),
        (all_of(put(quality=None), scaled(0.96)), ["its quality half is gone"]),
        (all_of(put(quality=None, environment=ELSEWHERE), scaled(0.96)), ["its quality half is gone"]),
        (put(cost=None), ["its cost half is gone"]),
        (put(quality=None, cost=None), ["its quality half is gone", "its cost half is gone"]),
    ],
)
def test_what_is_examined_is_missed_where_it_is_gone(sweep: Sweep, change: Change, reasons: list[str]) -> None:
    sweep.change(change)
    assert sweep.gate() in (REGRESSION, INCOMPLETE)
    found = sweep.reasons()
    assert [reason for reason in reasons if reason not in found] == []


def ledger(*rows: dict[str, Any]) -> Change:
    """A ledger of these rows, each with what the fixture's has, and other values."""
    return lambda values: values.update(ledger=[{**values["ledger"][0], **row} for row in rows])


ATTENTION, TOTAL = {"part": "attention"}, {"part": "total"}
DISAGREE = "its ledger's counts disagree or are not there in"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(ledger=[{"phase": "x", "part": "y", "agrees": True}]), "its FLOP ledger has 1 rows; the baseline's had 2 rows"),
        (put(ledger=[{"phase": "serve", "part": part, "agrees": True} for part in ("attention", "total")]), f"{DISAGREE} 2 of 2 rows"),
        (ledger(*({**row, "torch_flops": None, "fvcore_flops": None} for row in (ATTENTION, TOTAL))), f"{DISAGREE} 2 of 2 rows"),
        *((ledger(ATTENTION, {**TOTAL, f"{way}_flops": None}), f"{DISAGREE} 1 of 2 rows") for way in ("formula", "torch", "fvcore")),
        *((ledger(ATTENTION, {**TOTAL, f"{kind}_flops": None}), f"{DISAGREE} 1 of 2 rows") for kind in ("executed", "visible")),
        (ledger(ATTENTION, {**TOTAL, "agrees": None}), f"{DISAGREE} 1 of 2 rows"),
        (ledger({**ATTENTION, "phase": "x"}, {**TOTAL, "phase": "x"}), "its ledger has rows of 'x'; expected one of full, compress"),
        (ledger({**ATTENTION, "phase": "score"}, {**TOTAL, "phase": "score"}), "its ledger has no total of serve"),
        (ledger(ATTENTION, {"part": "projections"}), "its ledger has no total of serve"),
        (ledger(ATTENTION, TOTAL, TOTAL), "its ledger has several rows of serve, total"),
        (ledger(ATTENTION, {"part": "projections"}, TOTAL), "the parts in its ledger come to 2e+06, and their total is 1e+06"),
        (scaled(0.9995, only=("serve_flops",)), "999500, and the ledger's total is 1e+06"),
        (all_of(put(ledger=[]), lambda values: values["metrics"].update(item_flops={"value": 5})), "its ledger has no total of item"),
    ],
)
def test_a_ledger_that_shows_less_than_it_did_is_seen(sweep: Sweep, change: Change, reason: str) -> None:
    sweep.change(change, "persrec")
    assert sweep.gate() == INCOMPLETE
    assert reason in sweep.reasons()


@pytest.mark.parametrize(("phase", "told", "code"), [("train", 10**6, PASS), ("item", 2 * 10**6, PASS), ("item", 900_000, INCOMPLETE)])
def test_a_ledger_has_what_its_pass_can_have(sweep: Sweep, phase: str, told: int, code: int) -> None:
    def add(values: dict[str, Any]) -> None:
        """Training has no count by fvcore; of the vectors of a large catalogue those of some items are counted."""
        more = {"phase": phase} | ({"fvcore_flops": None} if phase == "train" else {})
        values["ledger"] += [{**row, **more} for row in values["ledger"]]
        values["metrics"][f"{phase}_flops"] = {"value": told}

    sweep.change(add, "persrec")
    assert sweep.gate() == code


@pytest.mark.parametrize("factor", [1, 0.96])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda values: values["quality"]["environment"].update(fingerprint="x"),
            "the fingerprint of its quality, x, is not that of the facts",
        ),
        (lambda values: values["quality"]["environment"].update(cpu="another cpu"), "is not that of the facts beside it"),
        (lambda values: values["quality"]["environment"].update(fingerprint=None), "its quality does not say which machine it is of"),
        (kept_under_its_key("quality", "environment", {}), "its quality does not say which machine it is of"),
        (kept_under_its_key("quality", "environment", {"fingerprint": ELSEWHERE["fingerprint"]}), "is not that of the facts beside it"),
        (kept_under_its_key("cost", "environment", {"fingerprint": "x"}), "the fingerprint of its cost, x, is not that of the facts"),
        (kept_under_its_key("environment", "fingerprint", "x"), "the fingerprint of its record, x, is not that of the facts"),
    ],
)
def test_a_fingerprint_that_is_not_that_of_the_machine_is_invalid(sweep: Sweep, change: Change, reason: str, factor: float) -> None:
    sweep.change(all_of(change, scaled(factor)))
    assert sweep.gate() in (REGRESSION, INCOMPLETE)
    assert reason in sweep.reasons()


def out_of_memory(values: dict[str, Any]) -> None:
    values["status"] = values["cost"]["status"] = "oom"


def test_the_quality_of_a_cell_without_a_cost_is_gated_too(sweep: Sweep) -> None:
    sweep.change(out_of_memory, "persrec")
    assert sweep.gate("--update") == PASS
    assert sweep.gate("--strict") == PASS
    sweep.change(scaled(0.99), "persrec")
    assert sweep.gate() == REGRESSION


def test_a_cell_that_has_a_cost_now_is_no_improvement_where_it_cannot_be_true(sweep: Sweep) -> None:
    sweep.change(out_of_memory, "persrec")
    assert sweep.gate("--update") == PASS
    sweep.change(all_of(put(status="ok"), kept_under_its_key("cost", "status", "ok")), "persrec")
    assert sweep.gate() == PASS
    sweep.change(kept_under_its_key("model", "cached_joint_gap", 0.5), "persrec")
    assert sweep.gate() == INCOMPLETE


def test_an_interval_must_be_one(sweep: Sweep) -> None:
    sweep.change(lambda values: values["metrics"]["ndcg@10"].update(low=0.7, high=0.5), "persrec")
    assert sweep.gate() == INCOMPLETE
    assert "its interval ends before it begins: 0.7 to 0.5" in sweep.reasons()


def test_macs_that_are_not_half_of_the_flops_are_invalid(sweep: Sweep) -> None:
    sweep.change(lambda values: values["metrics"].update(serve_macs={"value": 499_999}), "persrec")
    assert sweep.gate() == INCOMPLETE
    assert "1e+06 is not twice serve_macs, 499999" in sweep.reasons()


@pytest.mark.parametrize("says_so", [True, False])
def test_a_ledger_that_disagrees_is_invalid_also_where_it_says_that_it_agrees(sweep: Sweep, says_so: bool) -> None:
    def spoil(values: dict[str, Any]) -> None:
        values["ledger"][0] |= {"torch_flops": 2_000_000, "agrees": not says_so}

    sweep.change(spoil)
    assert sweep.gate() == INCOMPLETE
    assert "its ledger's counts disagree or are not there in 1 of 2 rows, the first of them serve, attention" in sweep.reasons()


def test_a_ledger_that_is_gone_is_missed(sweep: Sweep) -> None:
    sweep.change(lambda values: values.update(ledger=[]), "persrec")
    assert sweep.gate() == INCOMPLETE
    assert "its FLOP ledger is gone; the baseline's had 2 rows" in sweep.reasons()


@pytest.mark.parametrize(("factor", "code"), [(1.4, PASS), (1.6, REGRESSION), (2, REGRESSION), (10, REGRESSION)])
@pytest.mark.parametrize("peak", ["serve_peak_bytes", "train_peak_bytes"])
def test_a_peak_gates_with_a_wide_margin(sweep: Sweep, peak: str, factor: float, code: int) -> None:
    sweep.change(scaled(factor, only=(peak,)), "persrec")
    assert sweep.gate() == code
    assert sweep.regressions() == ({peak} if code == REGRESSION else set())


def test_a_sweep_that_was_cut_becomes_no_baseline(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    before = sweep.baseline.read_bytes()
    (path, _), *_ = sweep.records()
    path.unlink()
    assert sweep.gate("--update") == INCOMPLETE
    assert "1 of its cells are not among these results" in capsys.readouterr().err
    assert sweep.baseline.read_bytes() == before


def test_an_output_that_cannot_be_written_leaves_the_baseline(sweep: Sweep) -> None:
    before = sweep.baseline.read_bytes()
    assert sweep.gate("--update", "--junit", str(sweep.baseline / "gate.xml")) == 2
    assert sweep.baseline.read_bytes() == before


def test_a_new_record_that_cannot_be_true_is_no_news(sweep: Sweep) -> None:
    values = record_of_cell(Cell(backbone="llama", compression="experts", tokens=4))
    values["metrics"]["recall@10"]["value"] = 1.7
    (sweep.folder / "cells" / f"{values['cell_key']}.json").write_text(json.dumps(values))
    assert sweep.gate() == INCOMPLETE


def test_a_baseline_that_was_changed_under_its_keys_is_bad_input(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(sweep.baseline.read_text())
    next(iter(content["entries"].values()))["cell"]["seed"] = 2
    sweep.baseline.write_text(json.dumps(content))
    assert sweep.gate() == 2
    assert "this key is not that of its settings, its data and its measures' versions" in capsys.readouterr().err
