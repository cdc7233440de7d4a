"""The command that times the kernels: a process for each row, outputs compared before, no record of a run that failed, and going on."""

import dataclasses
import json

import pytest

from benchmarks import environment
from benchmarks.isolation import Outcome
from benchmarks.kernels import command as kernels
from benchmarks.kernels import rows
from benchmarks.kernels.record import KernelRow, load_kernels
from benchmarks.records import Status

CHECK = {"largest_difference": 2e-6, "tolerance": 1e-4}
ROW = KernelRow(
    name="half as long",
    ratio=2.0,
    bound=3.0,
    higher_is_better=True,
    share_of_flops=1.0,
    unit="s",
    ours=(0.002, 0.001, 0.003),
    other=(0.004,),
)


@pytest.fixture
def jobs(monkeypatch):
    """What is run in processes: a check and a measurement of each row, which are made up."""
    jobs = []

    def run(job):
        jobs.append((job.function.split(":")[1], job.payload["name"]))
        return Outcome(status=Status.OK, value=CHECK if job.function.endswith("check_row") else ROW)

    monkeypatch.setattr(kernels, "preload", lambda modules, threads: None)
    monkeypatch.setattr(kernels, "run_isolated", run)
    return jobs


def test_the_record_is_written_with_what_the_outputs_differ_by(tmp_path, jobs, monkeypatch, capsys):
    monkeypatch.setattr(rows, "matrix_product_peak", lambda settings: 5e10)
    assert kernels.main(["--out", str(tmp_path), "--threads", "1", "--rounds", "1", "--processes", "1"]) == 0
    path = tmp_path / "kernels" / "cpu.json"
    assert str(path) in capsys.readouterr().out
    timings = load_kernels(path)
    assert len(timings.rows) == len(rows.names("cpu"))
    assert {(row.processes, row.ratio, row.low, row.high) for row in timings.rows} == {(1, 2.0, None, None)}
    assert {(row.largest_difference, row.tolerance) for row in timings.rows} == {(2e-6, 1e-4)}
    assert timings.machine.matrix_product_flops_per_second == 5e10
    assert timings.provenance.argv[:3] == ("python", "-m", "benchmarks.kernels")
    assert timings.environment.fingerprint


def test_all_rows_are_compared_first_and_measured_in_processes_that_are_spread_over_the_run(jobs, capsys):
    # in one process, a row would find the memory that the plain form or the row before has freed
    assert kernels.main(["--only", "hstu, serving"]) == 0
    names = [name for name in rows.names("cpu") if name.startswith("hstu, serving")]
    assert len(names) > 3
    assert jobs == [(function, name) for function in ("check_row", *["measure_row"] * 3) for name in names]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(jobs)  # a line as each process ends, in a pipe too
    assert said[0].startswith(f"{names[0]}: agrees (1 of {len(names)}), about ")
    assert all(line.endswith(" left") for line in said[:-1])
    assert not said[-1].endswith(" left")


@pytest.mark.parametrize(
    ("options", "processes", "rounds"), [([], 3, 3), (["--rounds", "7"], 3, 3), (["--processes", "1"], 1, 9), (["--processes", "2"], 2, 5)]
)
def test_the_rounds_are_shared_by_the_processes(options, processes, rounds, jobs, monkeypatch):
    asked = []
    run = kernels.run_isolated
    monkeypatch.setattr(kernels, "run_isolated", lambda job: asked.append(job.payload["settings"].rounds) or run(job))
    assert kernels.main(["--only", "hstu, serving, dense einsum over segmented, freed", *options]) == 0
    assert asked == [rounds] * (1 + processes)


def test_a_row_is_the_median_of_its_processes_with_an_interval_over_them():
    parts = [dataclasses.replace(ROW, ratio=ratio, other=(0.002 * ratio,)) for ratio in (1.0, 4.0, 2.0)]
    row = kernels.over_processes(parts)
    assert (row.ratio, row.processes, row.name) == (2.0, 3, ROW.name)
    assert row.ours == ROW.ours * 3
    assert row.other == (0.002, 0.008, 0.004)
    # the logarithms to base 2 are 0, 2, 1: mean 1, deviation 1; Student's t of 2 degrees of freedom is 4.303
    assert (row.low, row.high) == (pytest.approx(2 ** (1 - 4.3027 / 3**0.5), rel=1e-4), pytest.approx(2 ** (1 + 4.3027 / 3**0.5), rel=1e-4))
    assert kernels.interval([2.0]) == kernels.interval([0.0, 1.0]) == (None, None)
    low, high = kernels.interval([1.0, 1.0, 1.0, 1.0, 9.0])
    assert low <= 1.0 <= high


def test_a_row_is_compared_and_measured_in_its_processes(capsys):
    row = "hstu, serving, dense einsum over segmented, freed memory kept by the process"  # of all rows the quickest
    assert kernels.main(["--only", row, "--threads", "1", "--rounds", "2", "--processes", "2", "--layers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"{row}: ") for line in lines] == [True] * 3
    said = [line.rpartition(" (")[2].partition(")")[0] for line in lines]
    assert said == ["1 of 1", "process 1 of 2", "process 2 of 2"]


@pytest.fixture
def stopped(monkeypatch):
    """Runs the command until so many of its processes have ended; the next one fails. Returns what was asked of processes."""

    def run(arguments, ends):
        asked = []

        def isolated(job):
            if len(asked) == ends:
                return Outcome(status=Status.CRASH, type="MemoryError", message="no more")
            asked.append((job.function.split(":")[1], job.payload["name"]))
            answer = CHECK if job.function.endswith("check_row") else dataclasses.replace(ROW, name=job.payload["name"])
            return Outcome(status=Status.OK, value=answer)

        monkeypatch.setattr(kernels, "preload", lambda modules, threads: None)
        monkeypatch.setattr(kernels, "run_isolated", isolated)
        monkeypatch.setattr(rows, "matrix_product_peak", lambda settings: 5e10)
        return kernels.main(arguments), asked

    return run


@pytest.mark.parametrize("ends", [1, 3, len(rows.names("cpu")), 2 * len(rows.names("cpu")) + 5])
def test_a_run_that_was_stopped_goes_on_and_gives_the_same_record(tmp_path, stopped, ends, capsys):
    arguments = ["--out", str(tmp_path), "--threads", "1"]
    code, first = stopped(arguments, ends)
    assert (code, len(first)) == (3, ends)
    code, second = stopped(arguments, None)
    assert code == 0
    names = rows.names("cpu")
    assert first + second == [(function, name) for function in ("check_row", *["measure_row"] * 3) for name in names]
    assert f"{ends} of {4 * len(names)} processes are kept from a run that was stopped" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == ["cpu.json"]
    timings = load_kernels(tmp_path / "kernels" / "cpu.json")
    assert [(row.name, row.processes, row.ours, row.largest_difference) for row in timings.rows] == [
        (name, 3, ROW.ours * 3, 2e-6) for name in names
    ]


@pytest.mark.parametrize("change", [["--threads", "2"], ["--rounds", "12"], ["--processes", "2"], ["--layers", "2"], "code"])
def test_what_another_run_has_kept_is_measured_again(tmp_path, stopped, monkeypatch, change, capsys):
    arguments = ["--out", str(tmp_path), "--threads", "1"]
    stopped(arguments, 3)
    if change == "code":
        monkeypatch.setattr(kernels, "modules_digest", lambda roots: "another")
    else:
        arguments += change
    assert len(stopped(arguments, 2)[1]) == 2
    assert "are kept from a run" not in capsys.readouterr().out
    code, asked = stopped(arguments, None)
    assert (code, asked[0]) == (0, ("check_row", rows.names("cpu")[2]))


def test_rows_alone_keep_nothing(tmp_path, stopped):
    assert stopped(["--out", str(tmp_path), "--only", "hstu, serving"], 3)[0] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_of_what_was_kept_is_named(tmp_path, stopped, capsys):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "cpu.parts.json").write_text("{}")
    assert stopped(["--out", str(tmp_path)], None) == (2, [])
    err = capsys.readouterr().err
    assert (err.count("\n"), "cpu.parts.json: is no file of what benchmarks.kernels has measured so far" in err) == (1, True)


@pytest.mark.parametrize("function", ["check_row", "measure_row"])
def test_a_row_without_an_answer_is_named_and_no_record_is_written(tmp_path, monkeypatch, capsys, function):
    ended = Outcome(status=Status.CRASH, type="MemoryError", message="no more", log_tail="where it was")
    monkeypatch.setattr(kernels, "preload", lambda modules, threads: None)
    monkeypatch.setattr(kernels, "run_isolated", lambda job: ended if function in job.function else Outcome(status=Status.OK, value=CHECK))
    assert kernels.main(["--out", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert "where it was" in err
    assert "hstu, full forward, dense einsum over segmented: crash: MemoryError: no more; no record was written" in err
    assert not (tmp_path / "kernels" / "cpu.json").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--only", "nothing like it"], "hstu, full forward, dense einsum over segmented"),
        (["--processes", "10"], "--processes: 10; expected at most the 9 of --rounds"),
        (["--out", "{tmp}/file"], "{tmp}/file is a file; expected a folder"),
        (["--out", "{tmp}/taken"], "{tmp}/taken/kernels is a file; expected a folder"),
        (["--out", "{tmp}/there"], "{tmp}/there/kernels/cpu.json is a folder"),
        (["--out", "{tmp}/" + "n" * 300], "File name too long"),
    ],
)
def test_what_would_fail_behind_the_measuring_is_refused_before(tmp_path, jobs, options, part, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "kernels").touch()
    (tmp_path / "there" / "kernels" / "cpu.json").mkdir(parents=True)
    assert kernels.main([option.format(tmp=tmp_path) for option in options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), part.format(tmp=tmp_path) in err, jobs) == ("", 1, True, [])


def test_a_device_that_is_not_there_is_refused_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(environment, "cuda_device_count", lambda: (0, "none was built in"))
    assert kernels.main(["--device", "cuda"]) == 2
    assert "none was built in" in capsys.readouterr().err


def test_an_unforeseen_error_is_no_regression(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(kernels, "chosen_device", lambda device: json.loads("{}")["device"])
    assert kernels.main([]) == 70
    assert capsys.readouterr().err.count("\n") == 1
