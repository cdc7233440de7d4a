import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import environment as env
from benchmarks.records import Environment, Provenance


def test_readings_and_reasons_are_never_hashed() -> None:
    facts = env.environment(device="cpu", threads=2, affinity=[0])
    stable = {name: value for name, value in facts.items() if name not in ("fingerprint", "threads", "affinity", "readings")}
    assert facts["fingerprint"] == env.fingerprint(stable)
    assert env.fingerprint(stable) == env.fingerprint(
        stable | {"gpu_reason": "another wording", "memory_bytes": stable["memory_bytes"] + 4096}
    )
    assert env.fingerprint(stable) != env.fingerprint(stable | {"cpu": "another"})
    assert env.fingerprint(stable) != env.fingerprint(stable | {"packages": {"torch": "0"}})
    assert (facts["threads"], facts["affinity"]) == (2, [0])
    json.dumps(facts, allow_nan=False)


def test_a_record_says_what_its_numbers_depend_on() -> None:
    facts = env.environment(device="cpu", threads=1, affinity=[0])
    stable = {"python", "packages", "system", "cpu", "cores", "memory_bytes", "gpu", "gpu_memory_bytes", "driver", "gpu_reason"}
    assert set(facts) == stable | {"fingerprint", "threads", "affinity", "readings"}
    assert set(facts["readings"]) == {"cpu_mhz", "load_average"}
    assert facts["packages"]["torch"]
    assert set(env.provenance(argv=["x"])) >= {"commit", "dirty", "argv", "utc"}


def test_a_fact_that_cannot_be_had_is_null_with_a_reason() -> None:
    facts = env.environment(device="cpu", threads=1, affinity=[0])
    assert (facts["gpu"] is None) == (facts["gpu_reason"] is not None)


@pytest.mark.parametrize("missing", [[], ["sched_getaffinity"]])
def test_a_worker_has_processors_with_and_without_affinity(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    for name in missing:
        monkeypatch.delattr(os, name, raising=False)
    available = env.available_processors()
    assert available == (tuple(range(os.cpu_count() or 1)) if missing else tuple(sorted(os.sched_getaffinity(0))))
    assert env.processors(0, len(available)) == available
    assert env.processors(3, len(available) + 1) == available


def test_the_next_worker_has_the_next_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "available_processors", lambda: (2, 3, 5, 7, 11))
    assert [env.processors(slot, 2) for slot in range(3)] == [(2, 3), (5, 7), (2, 11)]


def test_a_system_that_tells_little_gives_nulls(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise OSError("no /proc")

    for name in ("cpu_freq", "getloadavg", "virtual_memory"):
        monkeypatch.setattr(env.psutil, name, nothing)
    assert env.readings(device="cpu") == {"cpu_mhz": None, "load_average": None}
    assert env._memory_bytes() is None or env._memory_bytes() > 0  # a container's limit
    assert env.fingerprint(env._stable_facts() | {"memory_bytes": None})


def test_provenance_says_which_checkout_and_when(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(env, "PROJECT", tmp_path)
    facts = env.provenance(argv=["run", "--out", "/home/bob/mine"])
    assert (facts["commit"], facts["argv"]) == (None, ["run", "--out", "mine"])
    assert facts["commit_reason"]
    assert msgspec.convert(facts, Provenance).utc == facts["utc"]
    assert msgspec.convert(env.environment(device="cpu", threads=1, affinity=[0]), Environment).cores


@pytest.mark.parametrize(
    ("torch_version", "visible", "reason"),
    [
        ("2.13.0+cpu", None, "built without CUDA"),
        (None, None, "not installed"),
        ("2.13.0", "", "CUDA_VISIBLE_DEVICES"),
        ("2.13.0", "-1", "hides"),
    ],
)
def test_why_there_is_no_cuda_device(monkeypatch: pytest.MonkeyPatch, torch_version: str | None, visible: str | None, reason: str) -> None:
    monkeypatch.setattr(env, "package_versions", lambda: {"torch": torch_version})
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    count, why = env.cuda_device_count()
    assert count == 0
    assert reason in why


def test_a_fingerprint_is_of_facts_that_a_record_holds() -> None:
    assert set(env._stable_facts()) == {*env.HASHED_FACTS, "gpu_reason"}
    facts = env.environment(device="cpu", threads=1, affinity=[0])
    held = msgspec.convert(facts, Environment)
    assert env.fingerprint({name: getattr(held, name) for name in env.HASHED_FACTS}) == facts["fingerprint"]


@pytest.mark.parametrize("variable", env.ROUNDING_VARIABLES)
@pytest.mark.parametrize("cpu", ["A", None])
def test_one_processor_has_two_fingerprints_where_its_instructions_are_chosen(monkeypatch, variable: str, cpu: str | None) -> None:
    for name in env.ROUNDING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(env, "_first_match", lambda path, pattern: cpu if "model name" in pattern else None)
    monkeypatch.setattr(env.platform, "processor", lambda: "")
    monkeypatch.setenv(variable, "")  # as if it were not set
    assert env._cpu_model() == cpu
    monkeypatch.setenv(variable, "some")
    assert env._cpu_model() == f"{cpu or 'unknown processor'} ({variable}=some)"


def test_the_harness_imports_light() -> None:
    heavy = {"torch", "pandas", "matplotlib", "persrec.recommender", "persrec.data"}
    light = "benchmarks.grids, benchmarks.store, benchmarks.environment, benchmarks.isolation"
    program = f"import sys, {light}; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    finished = subprocess.run([sys.executable, "-c", program], cwd=env.PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("model name\t: A\ncpu family\t: 25\nmodel\t\t: 1\nflags\t\t: fma avx avx2\n", "A (family 25, model 1, avx2)"),
        ("model name\t: A\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: avx avx2 avx512f\n", "A (family 25, model 17, avx512f)"),
        ("model name\t: A\nflags\t\t: sse\n", "A (no wide vectors)"),
        ("model name\t: A\n", "A"),
    ],
)
def test_processors_of_one_name_that_round_apart_have_two_fingerprints(lines, told, tmp_path, monkeypatch) -> None:
    (tmp_path / "cpuinfo").write_text(lines)
    monkeypatch.setattr(env, "CPU_INFO", tmp_path / "cpuinfo")
    assert env._cpu_model() == told
