"""Measures a list of cells: trains the models they need, gives each its own process, and writes its record as it ends.

One thread waits for all workers at once; nothing spins. A cell that fails becomes a record like any other.
"""

import json
import math
import multiprocessing.connection
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.cell import LLAMA_NAMES, Cell
from benchmarks.environment import environment, processors, provenance, utc_now
from benchmarks.grids import Limits, label
from benchmarks.isolation import ATTEMPTS, Isolated, Job, Outcome, preload
from benchmarks.measures import MEASURES, versions
from benchmarks.run.progress import CellDone, Display, shown_metrics
from benchmarks.store import SCHEMA_VERSION, Record, StoreError, log_path, model_dir, remove_records, write_raw, write_record
from persrec.commandline import duration, one_line

Reason = Literal["missing", "stale", "superseded", "failed", "unreadable", "asked", "done"]
ANSWER_FIELDS = ("metrics", "replicates", "ledger", "model", "dataset", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The functions that do the measuring, as ``module:function``; tests put others in their place.

    Their modules are imported once, in the fork server, and ``preload`` with them: what torch imports when it is asked for
    deterministic algorithms would cost each cell seconds. So would what ``llama`` names, where a cell's backbone is a Llama.
    """

    train: str = "benchmarks.execute:train_model"
    measure: str = "benchmarks.execute:measure_cell"
    preload: tuple[str, ...] = ("torch._inductor",)
    llama: tuple[str, ...] = ("persrec.backbones.llama",)

    def modules(self, backbones: Iterable[str]) -> list[str]:
        """What the fork server imports for cells of these backbones."""
        named = (function.partition(":")[0] for function in (self.train, self.measure))
        return list(dict.fromkeys([*named, *self.preload, *(self.llama if set(backbones) & set(LLAMA_NAMES) else ())]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A cell, its keys, and why it is to be measured (``done``: it is not).

    Its record takes the place of those under the keys ``supersedes``.
    """

    cell: Cell
    key: str
    model_key: str | None
    dataset_digest: str
    reason: Reason
    rerun: str
    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What is the same for all cells of a sweep."""

    out: Path
    data_dir: str | None
    cache_dir: str | None
    workers: int
    limits: Limits
    code_digest: str
    argv: Sequence[str]
    order_seed: int
    work: Work = Work()
    seconds_per_model: float = 30.0
    seconds_per_cell: float = 5.0


@dataclass(slots=True)
class Pace:
    """How long things take: a first guess until something was seen."""

    guess: float
    taken: list[float] = field(default_factory=list)

    def mean(self) -> float:
        """Seconds a piece."""
        return sum(self.taken) / len(self.taken) if self.taken else self.guess


@dataclass(slots=True)
class Worker:
    """One of the places where cells run, with its own processors."""

    slot: int
    affinity: tuple[int, ...]
    running: Isolated | None = None
    planned: Planned | None = None
    training: bool = False


class Sweep:
    """The measuring of a list of cells; ``run`` returns when each has its record."""

    def __init__(self, plan: Sequence[Planned], settings: Settings, display: Display) -> None:
        """Starts nothing yet."""
        self._settings = settings
        self._display = display
        self._waiting = list(plan)
        self._total = len(plan)
        self._done = 0
        self._provenance = provenance(argv=settings.argv)
        self._trained = {key for key in self._model_keys() if (model_dir(settings.out, key) / "model.json").is_file()}
        self._training_failures: dict[str, Outcome] = {}
        self._training_seconds: dict[str, float] = {}
        self._model_pace = Pace(settings.seconds_per_model)
        self._cell_pace = Pace(settings.seconds_per_cell)
        threads = max((planned.cell.threads for planned in plan), default=1)
        self._threads = threads
        self._workers = [Worker(slot=slot, affinity=processors(slot, threads)) for slot in range(settings.workers)]

    def models_to_train(self) -> int:
        """How many models are not there yet."""
        return len(self._model_keys() - self._trained - set(self._training_failures))

    def run(self) -> list[Record]:
        """Measures every cell.

        Returns:
            The records, in the order in which they came.

        Raises:
            StoreError: a record cannot be written, or a cell's process could not write; nothing runs on.
        """
        if not self._waiting:
            return []
        # a fresh process reads the program's main module again: with what that imports at hand, it takes no time
        preload([*self._settings.work.modules(planned.cell.backbone for planned in self._waiting), __name__], threads=self._threads)
        records: list[Record] = []
        try:
            while self._waiting or any(worker.running for worker in self._workers):
                for worker in self._workers:
                    if worker.running is None:
                        records += self._give_work(worker)
                self._wait()
                for worker in self._workers:
                    records += self._look_at(worker)
        finally:
            for worker in self._workers:
                if worker.running is not None:
                    worker.running.kill()
            self._display.close()
        return records

    def _model_keys(self) -> set[str]:
        return {planned.model_key for planned in self._waiting if planned.model_key is not None}

    def _give_work(self, worker: Worker) -> list[Record]:
        """Starts the first thing that may start; cells whose model cannot be had get their records at once.

        Models are trained side by side, one a worker. Cells are measured after them, one at a time: a timing has the
        machine to itself.
        """
        records: list[Record] = []
        for planned in [waiting for waiting in self._waiting if waiting.model_key in self._training_failures]:
            self._waiting.remove(planned)
            records.append(self._record(planned, _failed_in_training(self._training_failures[str(planned.model_key)]), worker))
        busy = [other.planned.model_key for other in self._workers if other.planned is not None]
        untrained = [waiting for waiting in self._waiting if waiting.model_key is not None and waiting.model_key not in self._trained]
        to_train = next((waiting for waiting in untrained if waiting.model_key not in busy), None)
        if to_train is not None:
            self._start(worker, to_train, training=True)
        elif self._waiting and not busy:
            self._start(worker, self._waiting.pop(0), training=False)
        return records

    def _start(self, worker: Worker, planned: Planned, *, training: bool, attempt: int = 1) -> None:
        settings, cell = self._settings, planned.cell
        limits = settings.limits
        name = f"model-{planned.model_key}" if training else planned.key
        worker.planned, worker.training = planned, training
        worker.running = Isolated(
            Job(
                function=settings.work.train if training else settings.work.measure,
                payload={
                    "cell": cell.to_dict(),
                    "model_dir": str(model_dir(settings.out, planned.model_key).absolute()) if planned.model_key else None,
                    "data_dir": settings.data_dir,
                    "cache_dir": settings.cache_dir,
                    "threads": cell.threads,
                    "dataset_digest": planned.dataset_digest,
                },
                log_path=log_path(settings.out, name).absolute(),
                threads=cell.threads,
                affinity=worker.affinity,
                timeout_s=limits.training_seconds if training else limits.cell_seconds,
                address_space_bytes=int(limits.address_space_bytes) if limits.address_space_bytes else None,
                attempt=attempt,
            )
        )
        self._show(worker)

    def _wait(self) -> None:
        """Sleeps until a process has news or has run out of time."""
        running = [worker.running for worker in self._workers if worker.running is not None]
        if not running:
            return
        patience = [seconds for isolated in running if (seconds := isolated.remaining_s()) is not None]
        multiprocessing.connection.wait(
            [waitable for isolated in running for waitable in isolated.waitables()],
            timeout=min(patience, default=None),
        )

    def _look_at(self, worker: Worker) -> list[Record]:
        running, planned = worker.running, worker.planned
        if running is None or planned is None:
            return []
        phase = running.phase
        outcome = running.poll()
        if outcome is None:
            if running.phase != phase:
                self._show(worker)
            return []
        training, attempt = worker.training, running.job.attempt
        worker.running, worker.planned, worker.training = None, None, False
        if outcome.disk_is_at_fault:
            raise StoreError(f"{self._settings.out}: {label(planned.cell)}: in {outcome.phase}: {one_line(str(outcome.message))}")
        if outcome.status == "crash" and attempt < ATTEMPTS:
            self._display.note(f"{label(planned.cell)}: {outcome.message}; trying again ({attempt + 1} of {ATTEMPTS})")
            self._start(worker, planned, training=training, attempt=attempt + 1)
            return []
        self._display.working(worker.slot, "")
        if training:
            self._finish_training(str(planned.model_key), outcome)
            return []
        self._cell_pace.taken.append(outcome.seconds)
        return [self._record(planned, outcome, worker)]

    def _finish_training(self, key: str, outcome: Outcome) -> None:
        if outcome.status == "ok" and not (model_dir(self._settings.out, key) / "model.json").is_file():
            outcome = replace(outcome, status="crash", phase="training", type="FileNotFoundError", message="training wrote no model.json")
        if outcome.status == "ok":
            self._trained.add(key)
            self._training_seconds[key] = outcome.seconds
            self._model_pace.taken.append(outcome.seconds)
        else:
            self._training_failures[key] = outcome

    def _record(self, planned: Planned, outcome: Outcome, worker: Worker) -> Record:
        """Writes the record of a cell, and its raw samples, and tells of it."""
        outcome = checked(outcome)
        if outcome.status == "ok":
            write_raw(self._settings.out, planned.key, outcome.value.get("raw") or {})
        record = self._record_of(planned, outcome, worker)
        write_record(self._settings.out, record)
        remove_records(self._settings.out, planned.supersedes)
        self._done += 1
        self._tell(planned, outcome)
        return record

    def _record_of(self, planned: Planned, outcome: Outcome, worker: Worker) -> Record:
        cell = planned.cell
        answer = outcome.value if outcome.status == "ok" else {}
        dataset = {"name": cell.dataset, "size": cell.dataset_size, "digest": planned.dataset_digest}
        seconds = dict(answer.get("seconds", {}))
        if outcome.status == "ok":
            spent = sum(value for name, value in seconds.items() if name not in ("training", "overhead") and value is not None)
            seconds["overhead"] = max(0.0, outcome.seconds - spent)
        return {
            "schema_version": SCHEMA_VERSION,
            "cell_key": planned.key,
            "status": outcome.status,
            "cell": cell.to_dict(),
            "code_digest": self._settings.code_digest,
            "measure_versions": versions(control=cell.control),
            "metrics": answer.get("metrics", {}),
            "replicates": answer.get("replicates") or {},
            "ledger": answer.get("ledger") or [],
            "model": answer.get("model"),
            "dataset": {**dataset, **(answer.get("dataset") or {})},
            "seconds": seconds,
            "comparisons": {},
            "error": outcome.error(),
            "environment": self._environment(planned, worker, answer.get("load") or {}),
            "provenance": {
                **self._provenance,
                "utc": utc_now(),
                "rerun": planned.rerun,
                "order": {"seed": self._settings.order_seed, "position": self._done + 1},
                "workers": self._settings.workers,
            },
        }

    def _environment(self, planned: Planned, worker: Worker, load: Mapping[str, Any]) -> dict[str, Any]:
        """The machine, with what others used of it while the cell was timed among the readings."""
        facts = environment(device=planned.cell.device, threads=planned.cell.threads, affinity=worker.affinity)
        return {**facts, "readings": {**facts["readings"], "load": dict(load)}}

    def _show(self, worker: Worker) -> None:
        if worker.planned is None or worker.running is None:
            return
        doing = f"training, {worker.running.phase}" if worker.training else worker.running.phase
        self._display.working(worker.slot, f"{label(worker.planned.cell)}: {doing}")

    def _tell(self, planned: Planned, outcome: Outcome) -> None:
        details = [shown_metrics(outcome.value["metrics"])] if outcome.status == "ok" else [f"in {outcome.phase}: {outcome.message}"[:160]]
        details.append(duration(outcome.seconds))
        trained = self._training_seconds.pop(planned.model_key or "", None)
        if trained is not None:
            details.append(f"(model trained in {duration(trained)})")
        self._display.finished(
            CellDone(
                number=self._done,
                total=self._total,
                status=outcome.status,
                label=label(planned.cell),
                details="  ".join(one_line(part) for part in details if part),
                seconds_left=self._seconds_left(),
            )
        )

    def _seconds_left(self) -> float:
        cells = self._total - self._done
        return cells * self._cell_pace.mean() + self.models_to_train() * self._model_pace.mean() / len(self._workers)


def checked(outcome: Outcome) -> Outcome:
    """The outcome as it is if its answer can become a record, else what is wrong with it.

    A number that is not finite makes a measurement invalid; an answer of another form is a crash of the measuring code.
    """
    if outcome.status != "ok":
        return outcome
    fault = _fault_of_form(outcome.value)
    if fault is not None:
        return replace(outcome, status="crash", value=None, phase="answer", type="TypeError", message=fault)
    for name, metric in outcome.value["metrics"].items():
        measure = MEASURES[name]
        metric.setdefault("unit", measure.unit)
        metric.setdefault("direction", measure.direction)
        for bound in ("value", "low", "high"):
            number = metric.get(bound)
            if number is not None and not math.isfinite(number):
                message = f"{name}: {bound} is {number}; expected a finite number, or null with a reason in method"
                return replace(outcome, status="invalid", value=None, phase="answer", type="InvalidMeasurementError", message=message)
    try:
        json.dumps({name: part for name, part in outcome.value.items() if name != "raw"}, allow_nan=False)
    except ValueError as error:
        return replace(outcome, status="invalid", value=None, phase="answer", type="InvalidMeasurementError", message=str(error))
    except TypeError as error:
        return replace(outcome, status="crash", value=None, phase="answer", type="TypeError", message=str(error))
    return outcome


def _fault_of_form(answer: object) -> str | None:
    if not isinstance(answer, Mapping):
        return f"the answer is {type(answer).__name__}; expected a table with: {', '.join(ANSWER_FIELDS)}"
    missing = [name for name in ANSWER_FIELDS if name not in answer]
    if missing:
        return f"the answer has no {missing[0]!r}; expected: {', '.join(ANSWER_FIELDS)}"
    for name, metric in answer["metrics"].items():
        if name not in MEASURES:
            return f"metric {name!r} is not in MEASURES; known: {', '.join(MEASURES)}"
        if not isinstance(metric, Mapping) or "value" not in metric:
            return f"metric {name!r} is {metric!r}; expected a table with a value"
    for name, array in (answer.get("raw") or {}).items():
        if np.asarray(array).dtype.hasobject:
            return f"raw samples {name!r} hold Python objects; expected numbers or text"
    return None


def _failed_in_training(failure: Outcome) -> Outcome:
    """What a cell's record says when its model could not be trained."""
    message = f"in {failure.phase}: {failure.message}" if failure.phase not in (None, "training") else failure.message
    return replace(failure, phase="training", message=message)
