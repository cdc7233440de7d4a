"""How far seeded qualities move where the processor rounds otherwise: the libraries are told to compute by older instructions.

Sums come in another order there, as they do on another processor, and a training carries the difference on. These moves are compared with
the gate's margins for other machines than that of a baseline (`benchmarks.measures`).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.environment import PROJECT
from benchmarks.measures import MEASURES
from benchmarks.noise.record import QualitySpread
from benchmarks.records import Record, load_records

GRID = "smoke"
INSTRUCTIONS: dict[str, dict[str, str]] = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE 4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
_TETHERED = (  # a sweep that ends with this process
    "import sys; from benchmarks.isolation.tether import end_with_parent; end_with_parent(); "
    "from benchmarks.run.command import main; sys.exit(main())"
)
Measured = Callable[[Mapping[str, str], Path], Sequence[Record]]


def quality_spreads(measure: Measured | None = None) -> tuple[QualitySpread, ...]:
    """The widest moves of each gated quality of the smoke grid, by processes of their own.

    Args:
        measure: measures the grid's qualities under some environment variables; tests put another in its place.

    Raises:
        ValueError: the grid did not run to its end.
    """
    measure = measure or _run_grid
    with tempfile.TemporaryDirectory() as folder:
        own = _qualities(measure({}, Path(folder) / "own"))
        others = [_qualities(measure(variables, Path(folder) / name)) for name, variables in INSTRUCTIONS.items()]
        others = [other for other in others if other != own] or others  # without instructions that are this processor's newest
    return tuple(_spread(metric, own, others) for metric in sorted({metric for _, metric in own}))


def _run_grid(variables: Mapping[str, str], out: Path) -> Sequence[Record]:
    options = ["--grid", GRID, "--device", "cpu", "--only", "quality", "--no-report", "--quiet", "--out", str(out)]
    command = [sys.executable, "-c", _TETHERED, *options]
    ran = subprocess.run(command, cwd=PROJECT, env=os.environ | variables, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ValueError(f"the qualities of {GRID} under {dict(variables)}: exit code {ran.returncode}: {ran.stderr.strip()[-300:]}")
    return load_records(out)


def _qualities(records: Sequence[Record]) -> dict[tuple[str, str], float]:
    """By the key of a cell and the name of a gated quality."""
    return {
        (record.cell_key, name): metric.value
        for record in records
        for name, metric in record.metrics.items()
        if name in MEASURES and MEASURES[name].group == "quality" and MEASURES[name].is_gated and metric.value is not None
    }


def _spread(metric: str, own: Mapping[tuple[str, str], float], others: list[dict[tuple[str, str], float]]) -> QualitySpread:
    pairs = [(value, other[key]) for key, value in own.items() if key[1] == metric for other in others if key in other]
    moves = [abs(there - here) for here, there in pairs]
    return QualitySpread(
        metric=metric,
        numbers=len(moves),
        moved=sum(move > 0 for move in moves),
        widest=max(moves, default=0.0),
        beyond_margin=sum(move > MEASURES[metric].margin(here) for (here, _), move in zip(pairs, moves, strict=True)),
        widest_share=max((move / here for (here, _), move in zip(pairs, moves, strict=True) if here), default=0.0),
    )
