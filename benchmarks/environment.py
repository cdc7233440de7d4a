"""Where and by what code a number was made: the machine, the packages, the commit, and the digest of the measuring code.

Stable facts form the environment's fingerprint; readings such as clock rates are recorded beside it and never hashed.
Nothing here imports torch or persrec: versions come from package metadata, GPU facts from NVML.
"""

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.driver import ask, clocks

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "torch",
    "numpy",
    "fvcore",
    "pandas",
    "pyarrow",
    "safetensors",
    "tokenizers",
    "transformers",
    "nvidia-ml-py",
)
MEASURING_SOURCES = (
    "persrec",
    "benchmarks/cell.py",
    "benchmarks/execute.py",
    "benchmarks/probes",
    "benchmarks/measures.py",
    "benchmarks/isolation.py",
    "benchmarks/driver.py",
)
NOT_CODE = (":(exclude)results", ":(exclude)reports")


def environment(*, device: str, threads: int, affinity: Sequence[int]) -> dict[str, Any]:
    """The facts of this machine for a record: stable ones and their fingerprint, and the readings of this moment.

    Args:
        device: the cell's device; the GPU's readings are taken only where it is ``cuda``.
        threads: threads the cell computes with.
        affinity: the processors the cell may run on.
    """
    stable = _stable_facts()
    return {
        "fingerprint": fingerprint(stable),
        **stable,
        "threads": threads,
        "affinity": list(affinity),
        "readings": readings(device=device),
    }


def fingerprint(stable: dict[str, Any]) -> str:
    """SHA-256 over the stable facts; memory counts in whole GiB, as kernels reserve a little more or less at each boot."""
    hashed = {name: value for name, value in stable.items() if not name.endswith("_reason")}
    hashed["memory_bytes"] = round(stable["memory_bytes"] / 2**30) if stable["memory_bytes"] else None
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


@functools.cache
def _stable_facts() -> dict[str, Any]:
    gpu, gpu_reason = _gpu_facts()
    return {
        "python": platform.python_version(),
        "packages": package_versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpu": gpu["name"] if gpu else None,
        "gpu_memory_bytes": gpu["memory_bytes"] if gpu else None,
        "driver": gpu["driver"] if gpu else None,
        "gpu_reason": gpu_reason,
    }


def package_versions() -> dict[str, str | None]:
    """The versions of the packages that make numbers, ``None`` for one that is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def readings(*, device: str) -> dict[str, Any]:
    """What the machine shows right now: clocks and load, on CUDA also temperature and throttling."""
    taken: dict[str, Any] = {"cpu_mhz": _cpu_mhz(), "load_average": round(os.getloadavg()[0], 2)}
    if device == "cuda":
        taken["gpu"] = ask(_gpu_readings)[0]
    return taken


def cuda_device_count() -> tuple[int, str]:
    """How many CUDA devices cells may use, and, for 0, why: told from torch's build and NVML, without importing torch."""
    torch_version = package_versions()["torch"]
    if torch_version is None:
        return 0, "torch is not installed"
    if torch_version.endswith("+cpu"):
        return 0, f"torch {torch_version} is built without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return 0, f"CUDA_VISIBLE_DEVICES={visible!r} hides every device"
    count, reason = ask(lambda nvml: int(nvml.nvmlDeviceGetCount()))
    if count is None:
        return 0, reason or "NVML gave no answer"
    return count, "" if count else "NVML lists no device"


def chosen_device(wanted: str) -> str:
    """``cpu`` or ``cuda`` for what ``--device`` says.

    Raises:
        ValueError: ``cuda`` where there is none.
    """
    if wanted == "cpu":
        return "cpu"
    count, reason = cuda_device_count()
    if count:
        return "cuda"
    if wanted == "cuda":
        raise ValueError(f"--device: no CUDA device here: {reason}")
    return "cpu"


def processors(slot: int, threads: int) -> tuple[int, ...]:
    """The processors of a worker: ``threads`` of those this run may use, the next ones for the next worker."""
    available = sorted(os.sched_getaffinity(0))
    if threads >= len(available):
        return tuple(available)
    return tuple(sorted({available[(slot * threads + offset) % len(available)] for offset in range(threads)}))


def provenance(*, argv: Sequence[str]) -> dict[str, Any]:
    """Commit, digest of uncommitted changes, the command and the time; ``commit`` is null, with a reason, outside a repository."""
    return {**repository_state(PROJECT), "argv": list(argv), "utc": utc_now()}


def utc_now() -> str:
    """The time as records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def code_digest(root: Path = PROJECT) -> str:
    """SHA-256 over the sources that make numbers; reports, gate, grids and tests may change without making records stale."""
    hasher = hashlib.sha256()
    for path in _python_sources(root, MEASURING_SOURCES):
        content = path.read_bytes()
        hasher.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        hasher.update(content)
    return hasher.hexdigest()


def _python_sources(root: Path, names: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = root / name
        found += path.rglob("*.py") if path.is_dir() else [path] * path.exists()
    return sorted(found)


def repository_state(root: Path) -> dict[str, Any]:
    """The commit of a checkout and the digest of what differs from it."""
    try:
        commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "commit_reason": f"git knows no commit at {root} ({type(error).__name__})", "dirty": None}
    return {"commit": commit, "dirty": _uncommitted_digest(root)}


def _uncommitted_digest(root: Path) -> str | None:
    """SHA-256 of what differs from the commit, new files among it; ``None`` for a clean tree. What runs write does not count."""
    changes = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--", ".", *NOT_CODE)
    new_files = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *NOT_CODE).split("\0")
    if not changes and not any(new_files):
        return None
    hasher = hashlib.sha256(changes.encode(errors="surrogateescape"))
    for name in sorted(filter(None, new_files)):
        path = root / name
        hasher.update(name.encode(errors="surrogateescape"))
        hasher.update(path.read_bytes() if path.is_file() else b"")
    return hasher.hexdigest()


def _git(root: Path, *arguments: str) -> str:
    finished = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=30)
    return finished.stdout.decode(errors="surrogateescape")


def _cpu_model() -> str | None:
    return _first_match(Path("/proc/cpuinfo"), r"^model name\s*:\s*(.+)$") or platform.processor() or None


def _cpu_mhz() -> float | None:
    try:
        clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return round(sum(map(float, clocks)) / len(clocks), 1) if clocks else None


def _memory_bytes() -> int | None:
    """What this process may use: the machine's memory or the container's limit, whichever is less."""
    kibibytes = _first_match(Path("/proc/meminfo"), r"^MemTotal:\s*(\d+) kB$")
    limits = [int(kibibytes) * 1024] if kibibytes else []
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _first_match(Path(name), r"^(\d+)$")
        limits += [int(limit)] if limit else []
    return min(limits, default=None)


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def _gpu_facts() -> tuple[dict[str, Any] | None, str | None]:
    return ask(_first_gpu)


def _first_gpu(nvml: Any) -> dict[str, Any]:
    handle = _first_visible(nvml)
    return {
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory_bytes": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        "driver": _text(nvml.nvmlSystemGetDriverVersion()),
    }


def _first_visible(nvml: Any) -> Any:
    """The device that CUDA calls 0, which need not be NVML's 0."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    return nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdecimal() else 0)


def _gpu_readings(nvml: Any) -> dict[str, Any]:
    return clocks(nvml, _first_visible(nvml))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
