"""Merges the records of several machines: ``python -m benchmarks.merge A B --out C``."""

import argparse
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import store
from benchmarks.merge.pool import Folder, Pool, View, pool
from benchmarks.records import RunRecords, to_json
from benchmarks.text import amount
from persrec.commandline import DONE, Parser, guarded, one_line
from persrec.files import atomic_folder

_PROGRAM = "python -m benchmarks.merge"
_FINGERPRINT = re.compile("[0-9a-f]{64}")
MACHINES = "machines"  # in the merged folder: a run's folder for each further machine, with its timings


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_PROGRAM, lambda: _main(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="Pools the records of several machines as one run: qualities of all, timings of one.")
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="A", help="runs' folders; the machine of the first that timed something gives the timings"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write; it must not be there")
    return parser


def _main(options: argparse.Namespace) -> int:
    if len(options.results) < 2:
        raise ValueError(f"{options.results[0]}: one folder alone; expected two or more to merge")
    resolved = [path.resolve() for path in options.results]
    for place, path in enumerate(options.results):
        if resolved.index(path.resolve()) < place:
            raise ValueError(f"{path}: stands twice; expected folders that differ")
    if os.path.lexists(options.out):
        raise ValueError(f"--out: {options.out}: is there already; expected a new folder")
    merged = pool([Folder.read(path) for path in options.results])
    main_view = {device: machines[0] for device, machines in merged.machines.items()}
    with atomic_folder(options.out, new=True) as part:
        view = _write(part, merged, main_view)
        _copy_raw(part, merged)
        for machine, devices in _further(merged).items():
            _write(_view_path(part, machine), merged, {**main_view, **devices})
    for line in _summary(options.out, merged, view):
        print(one_line(line))
    return DONE


def _further(merged: Pool) -> dict[str, dict[str, str]]:
    """The machines whose timings the merged run does not hold, with the device, or devices, that each timed."""
    further: dict[str, dict[str, str]] = {}
    for device, machines in merged.machines.items():
        for machine in machines[1:]:
            further.setdefault(machine, {})[device] = machine
    return further


def _view_path(out: Path, machine: str) -> Path:
    """The folder of a further machine's view, named by its fingerprint, or by a digest of what a record has instead of one."""
    name = machine if _FINGERPRINT.fullmatch(machine) else hashlib.sha256(machine.encode(errors="replace")).hexdigest()
    return out / MACHINES / name[:12]


def _write(out: Path, merged: Pool, machines: Mapping[str, str]) -> View:
    view = merged.view(machines)
    for folder in ("cells", "costs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for record in view.records:
        store.record_path(out, record.cell_key).write_bytes(to_json(record))
    for cost in view.costs:
        store.cost_path(out, cost.cost_key).write_bytes(to_json(cost))
    store.write_csv(out, RunRecords(view.records))
    return view


def _copy_raw(out: Path, merged: Pool) -> None:
    """The ranks of each user behind a quality, where its folder has them."""
    for key, (_, folder) in merged.qualities.items():
        if store.raw_path(folder, key).is_file():
            store.raw_path(out, key).parent.mkdir(exist_ok=True)
            store.raw_path(out, key).write_bytes(store.raw_path(folder, key).read_bytes())


def _summary(out: Path, merged: Pool, view: View) -> Iterator[str]:
    counts = [f"{len(folder.records)} of {folder.path}" for folder in merged.folders]
    yield f"{out}: {len(merged.qualities)} cells: {', '.join(counts)}"
    for device, machines in merged.machines.items():
        yield f"timings on {device}: of environment {machines[0][:12]}, the main one of the first folder that timed something there"
        for machine in machines[1:]:
            yield f"those of environment {machine[:12]} stay apart: {_view_path(out, machine)} is the same run with its timings"
    if view.elsewhere:
        count = len(view.elsewhere)
        yield f"{amount(count, 'shape')} timed elsewhere alone: counts are kept, times are null and say why"
    yield "trained models stay where they are"
