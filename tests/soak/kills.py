"""Kills a real run at random moments until it is through: ``python -m tests.soak.kills --kills 20``.

An unbroken run comes first. Then runs of the same command are killed, each after a random time, and started again in the
same folder; a folder whose run came to its end before the next kill is compared with the unbroken one, and a new folder
begins. At the end of every folder: the same records, none lost, none double; equal deterministic metrics, replicates,
ranks, training curves and weights; no process and no unfinished file left.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MARK = "PERSREC_SOAK"
GONE_S = 300.0  # until a process counts as one that outlives its run; on an idle machine it takes hundredths of a second


class BrokenLawError(AssertionError):
    """A run that was killed did not come to what the unbroken one came to."""


def command(out: Path, *, grid: str, select: str) -> list[str]:
    """The run, as a person would start it; its prepared data go into its own folder, so that these are killed too."""
    words = [sys.executable, "-m", "benchmarks.run", "--grid", grid, "--device", "cpu", "--out", str(out / "run"), "--workers", "2"]
    return [*words, "--cache-dir", str(out / "cache"), *(["--select", select] if select else [])]


def start(out: Path, *, grid: str, select: str) -> subprocess.Popen[bytes]:
    """Starts the run as the leader of a group of its own; whoever starts one ends it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "output").open("ab") as log:
        surroundings = os.environ | {MARK: str(out), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command(out, grid=grid, select=select), cwd=ROOT, env=surroundings, stdout=log, stderr=log, start_new_session=True
        )


def relatives(out: Path) -> list[int]:
    """Every process that came from a run in this folder and has not ended: it has the folder in its environment."""
    mark = f"{MARK}={out}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def run_to_end(out: Path, *, grid: str, select: str) -> None:
    """Starts the run, or the rest of it, and checks how it ends."""
    running = start(out, grid=grid, select=select)
    try:
        running.wait()
    finally:
        running.kill()
    if running.returncode != 0:
        raise BrokenLawError(f"{out}: the run ended with {running.returncode}: {(out / 'output').read_text()[-500:]}")
    wait_until_gone(out)
    check_tidy(out / "run")


def kill_after(seconds: float, out: Path, *, grid: str, select: str) -> float | None:
    """Starts the run and kills it so much later; the seconds until all was gone, None where it had ended before."""
    running = start(out, grid=grid, select=select)
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        return kill(running, out)
    finally:
        running.kill()
    return None


def kill(running: subprocess.Popen[bytes], out: Path, *, within_s: float = GONE_S) -> float:
    """Kills the run, and the run alone; its cells have to die with it. Returns the seconds until the last was gone."""
    start_s = time.monotonic()
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_until_gone(out, within_s=within_s)
    return time.monotonic() - start_s


def wait_until_gone(out: Path, *, within_s: float = GONE_S) -> None:
    """Waits until no process of the run is left; ends those that do not go, which breaks the law."""
    end_s = time.monotonic() + within_s
    while left := relatives(out):
        if time.monotonic() > end_s:
            names = [f"{number} ({name_of(number)})" for number in left]
            for number in left:
                os.kill(number, signal.SIGKILL)
            raise BrokenLawError(f"{out}: outlived the run by {within_s:g} s: {', '.join(names)}")
        time.sleep(0.01)


def name_of(number: int) -> str:
    """The command of a process, as far as it is told."""
    try:
        return Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ")[:120]
    except OSError:
        return "gone"


def outcome(out: Path) -> dict[str, Any]:
    """What is the same however often a run is killed, by the key of its cell or model."""
    from benchmarks import store
    from benchmarks.measures import MEASURES
    from benchmarks.records import load_records

    found: dict[str, Any] = {}
    for record in load_records(out):
        ranks, raw = None, store.raw_path(out, record.cell_key)
        if raw.is_file():  # a cell of cost alone has none
            with np.load(raw) as arrays:
                ranks = arrays["ranks"].tolist()
        found[f"cell {record.cell_key}"] = {
            "status": record.status,
            "metrics": {name: metric.value for name, metric in record.metrics.items() if MEASURES[name].deterministic},
            "replicates": record.replicates,
            "ledger": record.ledger,
            "ranks": ranks,
            "curve": [replace(epoch, seconds=None) for epoch in record.model.curve] if record.model else [],
        }
    for folder in (out / "models").iterdir():
        found[f"model {folder.name}"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    return found


def check_same(found: dict[str, Any], expected: dict[str, Any], out: Path) -> None:
    """Nothing lost, nothing beyond, nothing else."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            raise BrokenLawError(f"{out}: {name} is {'lost' if name in expected else 'not in the unbroken run'}")
        if found[name] != expected[name]:
            parts = ["weights"]
            if name.startswith("cell"):
                parts = [part for part in expected[name] if found[name][part] != expected[name][part]]
            raise BrokenLawError(f"{out}: {name}: other {', '.join(parts)} than in the unbroken run")


def check_tidy(out: Path) -> None:
    """A run that is through leaves its records once each, whole models, and nothing unfinished."""
    with (out / "results.csv").open() as file:
        keys = [row["cell_key"] for row in csv.DictReader(file)]
    records = sorted(path.stem for path in (out / "cells").iterdir())
    if sorted(keys) != records:
        raise BrokenLawError(f"{out}: results.csv has {len(keys)} rows for {len(records)} records")
    unfinished = [path for path in out.rglob("*") if path.name.startswith(".")]
    for folder in (out / "models").iterdir():
        unfinished += [] if (folder / "model.json").is_file() else [folder]
        unfinished += [path for path in folder.iterdir() if path.name not in ("model.json", "weights.safetensors")]
    if unfinished:
        raise BrokenLawError(f"{out}: left unfinished: {', '.join(map(str, unfinished))}")
    if not (out / "report.html").is_file():
        raise BrokenLawError(f"{out}: no report")


def resumes(out: Path) -> int:
    """How often a model of this run went on from a state inside its training."""
    return sum(json.loads((folder / "model.json").read_text())["resumes"] for folder in (out / "models").iterdir())


def soak(place: Path, *, kills: int, seed: int, grid: str, select: str, longest_s: float | None, tell: Callable[[str], None]) -> None:
    """Kills as often as asked, and compares; raises a BrokenLawError that says what did not hold."""
    began = time.monotonic()
    run_to_end(place / "unbroken", grid=grid, select=select)
    expected, unbroken_s = outcome(place / "unbroken" / "run"), time.monotonic() - began
    cells = sum(name.startswith("cell") for name in expected)
    tell(f"unbroken: {cells} cells, {len(expected) - cells} models in {unbroken_s:.0f} s")
    longest_s = unbroken_s / 2 if longest_s is None else longest_s
    moments = random.Random(seed)
    done = folders = went_on = 0
    while done < kills:
        folders += 1
        out = place / f"killed-{folders}"
        while done < kills:
            moment = moments.uniform(0, longest_s)
            gone_s = kill_after(moment, out, grid=grid, select=select)
            if gone_s is None:
                break
            done += 1
            records = len(list((out / "run" / "cells").glob("*.json")))
            ended = f"after {moment:.1f} s, {records} of {cells} records, all gone in {gone_s:.2f} s"
            tell(f"kill {done} of {kills}: folder {folders}, {ended}")
        run_to_end(out, grid=grid, select=select)
        check_same(outcome(out / "run"), expected, out)
        went_on += resumes(out / "run")
        tell(f"folder {folders}: {cells} records equal to the unbroken run's, {resumes(out / 'run')} models went on inside their training")
    seconds = time.monotonic() - began
    tell(f"held: {kills} kills over {folders} folders, {went_on} models went on inside their training, {seconds:.0f} s in all")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 when the law held, 1 when it did not."""
    parser = argparse.ArgumentParser(prog="tests.soak.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--grid", default="smoke")
    parser.add_argument("--select", default="")
    parser.add_argument("--longest", type=float, metavar="SECONDS", help="a kill comes at most so late (default: half the unbroken run)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for all that the runs write (default: one that is removed)")
    options = parser.parse_args(argv)

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what it started ends with it
    if options.keep is not None:
        options.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="persrec-kills-") as temporary:
        place = (options.keep or Path(temporary)).absolute()
        try:
            soak(
                place,
                kills=options.kills,
                seed=options.seed,
                grid=options.grid,
                select=options.select,
                longest_s=options.longest,
                tell=tell,
            )
        except BrokenLawError as broken:
            tell(f"broken: {broken}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
