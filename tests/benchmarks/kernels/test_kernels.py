"""The kernels' ratios, their record, and the table of them in a report."""

import json
import statistics

import pytest
import torch
from fabricated_records import fabricate, grid_cells, write

from benchmarks import environment, store
from benchmarks.isolation import Outcome
from benchmarks.kernels import command as kernels
from benchmarks.kernels import rows as probe
from benchmarks.kernels.record import SCHEMA_VERSION, load_kernels
from benchmarks.report.page import render_report
from benchmarks.report.tables.kernels import kernel_table
from persrec.backbones import hstu

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = probe.Settings(device="cpu", threads=1, rounds=1, layers=1)
ROW = {"name": "half as long", "ratio": 2.0, "bound": 3.0, "higher_is_better": True, "share_of_flops": 1.0, "unit": "s"}


def record():
    times = {**ROW, "ours": [0.002, 0.001, 0.003], "other": [0.004]}
    rows = [times, {**ROW, "name": "bytes", "bound": None, "unit": "byte", "ours": [1], "other": [2]}]
    machine = {"matrix_product_flops_per_second": 5e10}
    return {"schema_version": SCHEMA_VERSION, "settings": SETTINGS.to_dict(), "machine": machine, "rows": rows}


@pytest.mark.parametrize(
    "name",
    [
        "hstu, serving, naive over segmented",
        "hstu, serve over full, time over FLOPs",
        "hstu, peak bytes of a forward, segmented over naive",
        "softmax, full forward over the fused causal kernel",
    ],
)
def test_a_ratio_is_of_its_own_samples(name):
    row = probe.measure_row({"settings": SETTINGS, "name": name}, lambda phase: None)
    ours, other = (statistics.median(row[side]) for side in ("ours", "other"))
    if row["unit"] == "byte":
        assert row["ratio"] == ours / max(1, other)
    else:
        quotient = other / ours if row["higher_is_better"] else ours / other
        assert row["ratio"] == pytest.approx(quotient / row["share_of_flops"])
    assert (row["share_of_flops"] == 1) == ("FLOPs" not in name)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_share_of_flops_divides_either_ratio(inverse, monkeypatch):
    monkeypatch.setattr(probe, "interleaved", lambda calls, rounds, device: [[2.0], [3.0]])
    row = probe._times(probe.Sides(ours=list, other=list, share=0.5, inverse=inverse), SETTINGS)
    assert row["ratio"] == pytest.approx((2 / 3 if inverse else 3 / 2) / 0.5)


def test_the_record_is_written_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernels, "_measured", lambda settings, names: iter(record()["rows"]))
    assert kernels.main(["--out", str(tmp_path), "--threads", "1", "--rounds", "1"]) == 0
    path = store.kernels_paths(tmp_path / "run")["cpu"]
    assert str(path) in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert {"environment", "provenance"} <= set(content)
    timings = load_kernels(path)
    assert timings is not None
    assert [row.name for row in timings.rows] == ["half as long", "bytes"]
    write(tmp_path / "run", [fabricate(cell) for cell in grid_cells()[:3]])
    before = store.records_digest(tmp_path / "run")
    page = render_report(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "Attention kernels" in page
    assert "half as long" in page
    path.write_text(json.dumps({**content, "rows": content["rows"][:1]}))
    assert store.records_digest(tmp_path / "run") != before


def test_each_row_has_a_process_of_its_own(monkeypatch):
    # in one process, a row would find the memory that the one before has freed
    jobs = []
    monkeypatch.setattr(kernels, "preload", lambda modules, threads: None)
    monkeypatch.setattr(kernels, "run_isolated", lambda job: jobs.append(job.payload["name"]) or Outcome(status="ok", value=ROW))
    assert kernels.main(["--only", "hstu, serving"]) == 0
    assert len(jobs) > 3
    assert jobs == [name for name in probe.names("cpu") if name.startswith("hstu, serving")]


def test_a_row_is_measured_in_its_process(capsys):
    assert kernels.main(["--only", "hstu, serve over", "--threads", "1", "--rounds", "1", "--layers", "1"]) == 0
    assert capsys.readouterr().out.startswith("hstu, serve over full, time over FLOPs: ")


def test_a_row_without_an_answer_is_named_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    ended = Outcome(status="crash", type="MemoryError", message="no more", log_tail="where it was")
    monkeypatch.setattr(kernels, "preload", lambda modules, threads: None)
    monkeypatch.setattr(kernels, "run_isolated", lambda job: ended)
    assert kernels.main(["--out", str(tmp_path)]) == 3
    told = capsys.readouterr().err
    assert "where it was" in told
    assert "hstu, full forward, naive over segmented: crash: MemoryError: no more" in told
    assert list(tmp_path.iterdir()) == []


def test_a_table_says_what_was_asked_and_whether_it_was_reached(tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text(json.dumps(record()))
    first, second = kernel_table(load_kernels(path)).rows
    assert [entry.text for entry in first.entries] == ["half as long", "2.00", "at least 3.00", "2.00 ms", "4.00 ms"]
    assert first.entries[1].tone == "warn"
    assert second.entries[2].text == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "cpu.json"
    assert load_kernels(path) is None
    path.write_text(text)
    with pytest.raises(ValueError, match="^[^\n]*cpu.json[^\n]*$"):
        load_kernels(path)


def test_what_matches_nothing_lists_the_rows(capsys):
    assert kernels.main(["--only", "nothing like it"]) == 2
    assert "hstu, full forward, naive over segmented" in capsys.readouterr().err
    assert kernels.main(["--rounds", "0"]) == 2


def test_a_device_that_is_not_there_is_refused_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(environment, "cuda_device_count", lambda: (0, "none was built in"))
    assert kernels.main(["--device", "cuda"]) == 2
    assert "none was built in" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"timed": True}, {"memory": True}])
def test_a_gpus_rows_compare_the_dense_form_in_bfloat16(options, monkeypatch):
    assert set(probe.names("cpu")) < set(probe.names("cuda"))
    monkeypatch.setattr(probe, "LONG", 24)
    monkeypatch.setattr(probe, "RECENT", 8)
    seen = []
    attend = hstu.pointwise_attention

    def noted(q, k, v, *, kernel, bias, **rest):
        seen.append((kernel, q.dtype, k.shape[2], bias.buckets is not None))
        return attend(q, k, v, kernel=kernel, bias=bias, **rest)

    monkeypatch.setattr(hstu, "pointwise_attention", noted)
    sides = probe._long_training(SETTINGS, **options)
    assert (sides.bound, sides.memory, sides.inverse) == ((0.1, True, True) if options.get("memory") else (4.0, False, False))
    for call, kernel in ((sides.ours, "segmented"), (sides.other, "naive")):
        seen.clear()
        call()
        assert {part[:2] + part[3:] for part in seen} == {(kernel, torch.bfloat16, options.get("timed", False))}
        assert max(keys for _, _, keys, _ in seen) == 24
