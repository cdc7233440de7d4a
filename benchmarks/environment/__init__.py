"""Where and by what a number was made: the machine, the packages, the commit, the command.

Stable facts form the environment's fingerprint; readings such as clock rates are recorded beside it and never hashed.
Nothing here imports torch or persrec: versions come from package metadata, GPU facts from NVML.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.environment.checkout import repository_state
from benchmarks.environment.driver import ask, clocks, facts, first_visible, visible_devices
from benchmarks.environment.portable import portable_argv

PROJECT = Path(__file__).resolve().parent.parent.parent
CPU_INFO = Path("/proc/cpuinfo")
VECTORS = ("amx_tile", "avx512f", "avx2", "avx")  # the widest first
# environment variables by which torch and the libraries below it choose instructions, so that one processor may round in several ways
ROUNDING_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
HASHED_FACTS = ("python", "packages", "system", "cpu", "cores", "memory_bytes", "gpu", "gpu_memory_bytes", "driver")
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
    "scipy",
)


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


def fingerprint(stable: Mapping[str, Any]) -> str:
    """SHA-256 over `HASHED_FACTS`; memory counts in whole GiB, as kernels reserve a little more or less at each boot.

    A record holds these facts, so that anyone can make its fingerprint anew.
    """
    hashed = {name: stable[name] for name in HASHED_FACTS}
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
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def readings(*, device: str) -> dict[str, Any]:
    """What the machine shows right now: clocks and load, on CUDA also temperature and throttling; ``None`` for what it does not show."""
    values: dict[str, Any] = {"cpu_mhz": _cpu_mhz(), "load_average": _load_average()}
    if device == "cuda":
        gpu, reason = ask(lambda nvml: clocks(nvml, first_visible(nvml)))
        values["gpu"] = {"reason": reason} if gpu is None else gpu
    return values


def cuda_device_count() -> tuple[int, str]:
    """How many CUDA devices cells may use, and, for 0, why: from torch's build and NVML, without importing torch."""
    torch_version = package_versions()["torch"]
    if torch_version is None:
        return 0, "torch is not installed"
    if torch_version.endswith("+cpu"):
        return 0, f"torch {torch_version} is built without CUDA"
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is not None and setting.strip() in ("", "-1"):
        return 0, f"CUDA_VISIBLE_DEVICES={setting!r} hides every device"
    count, reason = ask(lambda nvml: len(visible_devices(nvml)))
    if count is None:
        return 0, reason or "NVML gave no answer"
    if count:
        return count, ""
    return 0, "NVML lists no device" if setting is None else f"CUDA_VISIBLE_DEVICES={setting!r} names no device here"


def chosen_device(device: str) -> str:
    """``cpu`` or ``cuda`` for what ``--device`` says.

    Raises:
        ValueError: ``cuda`` where there is none.
    """
    if device == "cpu":
        return "cpu"
    count, reason = cuda_device_count()
    if count:
        return "cuda"
    if device == "cuda":
        raise ValueError(f"--device: no CUDA device here: {reason}")
    return "cpu"


def available_processors() -> tuple[int, ...]:
    """The processors that this process may use, by number; all of the machine's where the system cannot limit them."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processors(slot: int, threads: int) -> tuple[int, ...]:
    """The processors of a worker: ``threads`` of those this run may use, the next ones for the next worker."""
    available = available_processors()
    if threads >= len(available):
        return available
    return tuple(sorted({available[(slot * threads + offset) % len(available)] for offset in range(threads)}))


def gpus() -> tuple[str, ...]:
    """The GPUs that this run may use, in the words of ``CUDA_VISIBLE_DEVICES``."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(part.strip() for part in setting.split(",")) if setting else tuple(str(number) for number in range(cuda_device_count()[0]))


def provenance(*, argv: Sequence[str]) -> dict[str, Any]:
    """Commit, digest of uncommitted changes, the command and the time; what git cannot tell is null, with a reason."""
    return {**repository_state(PROJECT), "argv": portable_argv(argv), "utc": utc_now()}


def utc_now() -> str:
    """The time as records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cpu_model() -> str | None:
    """The processor, with its generation and its widest vectors where the system tells: two of one name may round differently.

    So may one processor by itself: the variables that choose its instructions (`ROUNDING_VARIABLES`) follow, where any is set.
    """
    name = _first_match(CPU_INFO, r"^model name\s*:\s*(.+)$") or platform.processor() or None
    family, model = (_first_match(CPU_INFO, rf"^{field}\s*:\s*(\d+)$") for field in ("cpu family", "model"))
    flags = (_first_match(CPU_INFO, r"^flags\s*:\s*(.+)$") or "").split()
    details = [f"family {family}, model {model}"] if family and model else []
    details += [next((vectors for vectors in VECTORS if vectors in flags), "no wide vectors")] if flags else []
    details += [f"{variable}={os.environ[variable]}" for variable in ROUNDING_VARIABLES if os.environ.get(variable)]
    return f"{name or 'unknown processor'} ({', '.join(details)})" if details else name


def _cpu_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, AttributeError, NotImplementedError, RuntimeError):  # psutil has none for this system
        return None
    return round(float(frequency.current), 1) if frequency is not None and frequency.current else None


def _load_average() -> float | None:
    """The mean number of processes that wanted a processor in the last minute."""
    try:
        return round(float(psutil.getloadavg()[0]), 2)
    except OSError:
        return None


def _memory_bytes() -> int | None:
    """What this process may use: the machine's memory or the container's limit, which psutil does not know, whichever is less."""
    limits = []
    with contextlib.suppress(OSError):  # no /proc
        limits.append(int(psutil.virtual_memory().total))
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _first_match(Path(name), r"^(\d+)$")
        limits += [int(limit)] if limit else []
    return min(limits, default=None)


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        match = re.search(pattern, path.read_text(), flags=re.MULTILINE)
    except OSError:
        return None
    return match.group(1).strip() if match else None


def _gpu_facts() -> tuple[dict[str, Any] | None, str | None]:
    """Name, memory and driver of the GPU, ``None`` for those that it does not tell, and why."""
    gpu, reason = ask(facts)
    if gpu is None:
        return None, reason
    reasons = gpu.pop("reasons", {})
    return gpu, "; ".join(f"{name}: {text}" for name, text in reasons.items()) or None
