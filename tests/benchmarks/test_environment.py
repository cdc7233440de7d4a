import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import environment as env


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


def test_another_checkout_has_a_state_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    state = env.repository_state(tmp_path)
    assert state["commit"] != env.repository_state(env.PROJECT)["commit"]
    assert state["dirty"] is None
    (tmp_path / "code.py").write_text("2\n")
    assert env.repository_state(tmp_path)["dirty"] is not None


def test_a_fact_that_cannot_be_had_is_null_with_a_reason() -> None:
    facts = env.environment(device="cpu", threads=1, affinity=[0])
    assert (facts["gpu"] is None) == (facts["gpu_reason"] is not None)


def test_the_code_digest_follows_the_measuring_code_alone(tmp_path: Path) -> None:
    for name in ("persrec/a.py", "benchmarks/execute.py", "benchmarks/probes/flops.py", "benchmarks/report.py", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    digest = env.code_digest.__wrapped__
    before = digest(tmp_path)
    (tmp_path / "benchmarks/report.py").write_text("x = 2\n")
    (tmp_path / "tests/test_a.py").write_text("x = 2\n")
    assert digest(tmp_path) == before
    seen = {before}
    for name in ("persrec/a.py", "benchmarks/execute.py", "benchmarks/probes/flops.py"):
        (tmp_path / name).write_text("x = 3\n")
        seen.add(digest(tmp_path))
    (tmp_path / "persrec/a.py").rename(tmp_path / "persrec/b.py")
    seen.add(digest(tmp_path))
    assert len(seen) == 5


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_provenance_tells_a_clean_tree_from_a_changed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "PROJECT", tmp_path)
    assert env.provenance(argv=["x"])["commit"] is None
    assert "git" in env.provenance(argv=["x"])["commit_reason"]
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    clean = env.provenance(argv=["run", "--quiet"])
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is None
    assert clean["argv"] == ["run", "--quiet"]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("{}")
    assert env.provenance(argv=[])["dirty"] is None
    (tmp_path / "code.py").write_text("2\n")
    changed = env.provenance(argv=[])["dirty"]
    (tmp_path / "new.py").write_text("3\n")
    assert len({None, changed, env.provenance(argv=[])["dirty"]}) == 3


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


def test_the_harness_imports_light() -> None:
    heavy = {"torch", "pandas", "matplotlib", "persrec.recommender", "persrec.data"}
    program = f"import sys, benchmarks.run, benchmarks.gate; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    finished = subprocess.run([sys.executable, "-c", program], cwd=env.PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
