"""Works through a plan: trains the models, ranks with them, measures what shapes cost, and writes each cell's record as it is known.

Three kinds of tasks, each in a process of its own. Trainings and qualities run side by side, one a worker. Costs are timed, so
each has the machine to itself, unless the grid says that they need not. An executor says where tasks run (`benchmarks.run.local`,
`benchmarks.run.slurm`); this module says which of them may start. A task that fails becomes a record, too.
"""

import contextlib
import math
import random
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.cell import Cell
from benchmarks.environment import provenance
from benchmarks.environment.portable import without_paths
from benchmarks.grids.cluster import Lane
from benchmarks.isolation import ATTEMPTS, Outcome
from benchmarks.records import Environment, Order, Provenance, Record, Status, typed
from benchmarks.run.assemble import (
    COST_FIELDS,
    QUALITY_FIELDS,
    checked,
    cost_of,
    failed_in_training,
    half_of,
    kept_of,
    known_cost,
    known_quality,
    quality_of,
    record_of_halves,
    with_cost,
)
from benchmarks.run.jobs import (
    Answer,
    CostOf,
    CostsOf,
    Place,
    QualityOf,
    SweepSettings,
    Task,
    TrainingOf,
    Worker,
    costs_of,
    first_of,
)
from benchmarks.run.local import Executor
from benchmarks.run.plan import Plan, Planned, PlannedCost, model_fault, other_records
from benchmarks.run.progress import CellDone, Display, Pace, shown_metrics
from benchmarks.store import copy_raw, model_dir, raw_path, remove_records, write_cost, write_raw, write_record
from benchmarks.text import amount
from persrec.commandline import duration, one_line
from persrec.files import WriteError

DAMAGED = "CheckpointError"  # the error of a process whose model has damaged weights


class Sweep:
    """The measuring of a plan; ``run`` returns when each of its cells has its record."""

    def __init__(self, plan: Plan, settings: SweepSettings, display: Display, executor: Executor) -> None:
        """Starts nothing yet."""
        self._plan, self._settings, self._display, self._executor = plan, settings, display, executor
        self._cells = {planned.key: planned for planned in plan.to_do()}
        self._faults = {key: fault for key, code in self._models().items() if (fault := model_fault(settings.out, key, code=code))}
        self._qualities = plan.qualities()
        costs = plan.costs_to_measure()
        self._costs = executor.grouped(_in_rounds(costs, seed=settings.order_seed))
        self._measured_costs = {cost.key: kept_of(cost) for cost in costs}
        self._done: set[str] = set()
        self._known_qualities = {key: known_quality(planned.with_quality) for key, planned in self._cells.items()}
        self._known_costs = {key: half_of(cost.known) for key, cost in plan.costs.items() if cost.known is not None}
        self._training_failures: dict[str, Outcome] = {}
        self._retrained: set[str] = set()  # models that were found damaged
        self._sent_back: set[str] = set()  # cells that found such a model, and are measured once more
        self._seconds: dict[str, float] = dict.fromkeys(self._cells, 0.0)
        self._training_seconds: dict[str, float] = {}
        self._paces: dict[Lane, Pace] = {
            "training": Pace(settings.seconds_per_model),
            "quality": Pace(1.0),
            "cost": Pace(settings.seconds_per_cell * len(costs) / max(1, len(self._costs))),
        }
        self._workers = [Worker(slot=slot) for slot in range(executor.places)]
        self._provenance = typed(provenance(argv=settings.argv), Provenance, where="provenance", what="a provenance")
        self._position = 0

    def models_to_train(self) -> list[str]:
        """The models that are still to be trained: missing, damaged or of other code."""
        return [key for key in self._faults if key not in self._training_failures]

    def run(self) -> None:
        """Measures all that the plan asks for, and writes the record of each of its cells.

        Raises:
            WriteError: a record cannot be written, or a process could not write; nothing runs on.
        """
        if not self._cells:
            self._renew_others()
            return
        self._tell_of_faults()
        if self._qualities or self._costs:
            self._executor.prepare([planned.cell for planned in self._cells.values()])
        try:
            self._finish_cells()
            while self._qualities or self._costs or any(worker.running for worker in self._workers):
                for worker in self._workers:
                    if worker.running is None:
                        self._give_work(worker)
                self._executor.wait([worker.running for worker in self._workers if worker.running is not None])
                for worker in self._workers:
                    self._look_at(worker)
            self._renew_others()
        finally:
            for worker in self._workers:
                if worker.running is not None:
                    worker.running.kill()
            self._executor.end()
            self._display.close()

    def _models(self) -> dict[str, str]:
        """The models of the qualities to measure, each with the digest of the code that trains it."""
        return {
            planned.model_key: planned.code["training"]
            for planned in self._plan.cells
            if planned.measures_quality and planned.model_key is not None
        }

    def _tell_of_faults(self) -> None:
        faults = [fault for fault in self._faults.values() if fault != "missing"]
        for fault in dict.fromkeys(faults):
            count = faults.count(fault)
            self._display.note(f"{amount(count, 'model')} here {'were' if count > 1 else 'was'} {fault}: trained anew")

    def _give_work(self, worker: Worker) -> None:
        """Starts the first task that may start: a training, then a quality whose model is there, then, alone, a cost."""
        running = [other.task for other in self._workers if other.task is not None]
        alone = self._executor.costs_alone
        if alone and any(costs_of(task) for task in running):
            return
        self._give_up_untrained()
        in_training = {task.planned.model_key for task in running if isinstance(task, TrainingOf)}
        to_train = (planned for planned in self._qualities if planned.model_key in self._faults and planned.model_key not in in_training)
        trained = (planned for planned in self._qualities if planned.model_key not in self._faults)
        if (planned := next(to_train, None)) is not None:
            self._start(worker, TrainingOf(planned=planned))
        elif (planned := next(trained, None)) is not None:
            self._qualities.remove(planned)
            self._start(worker, QualityOf(planned=planned))
        elif self._costs and not (self._qualities and self._executor.costs_wait) and not (alone and running):
            self._start(worker, self._with_counts(self._costs.pop(0)))

    def _with_counts(self, task: CostOf | CostsOf) -> CostOf | CostsOf:
        """Passes on what an earlier process counted, so that it is not counted again; for several costs, the allocation does so."""
        if isinstance(task, CostsOf):
            return task
        before = self._measured_costs[task.planned.key]
        metric = before.metrics.get("train_flops") if before is not None and task.number else None
        return replace(task, train_flops=None if metric is None else metric.value)

    def _give_up_untrained(self) -> None:
        """Qualities whose model could not be trained fail as the training did."""
        for planned in [waiting for waiting in self._qualities if waiting.model_key in self._training_failures]:
            self._qualities.remove(planned)
            self._keep_quality(planned, failed_in_training(self._training_failures[str(planned.model_key)]), Place())

    def _start(self, worker: Worker, task: Task, *, attempt: int = 1) -> None:
        worker.task, worker.attempt = task, attempt
        worker.running = self._executor.start(task, slot=worker.slot, attempt=attempt)
        self._show(worker, worker.running.phase)

    def _look_at(self, worker: Worker) -> None:
        running, task = worker.running, worker.task
        if running is None or task is None:
            return
        outcome = running.poll()
        for phase in running.new_phases():
            self._show(worker, phase)
        if outcome is None:
            return
        worker.running = worker.task = None
        name = self._name(task)
        if outcome.disk_is_at_fault:
            raise WriteError(f"{self._settings.out}: {name}: in {outcome.phase}: {one_line(str(outcome.message))}")
        if _may_be_bad_luck(outcome) and worker.attempt < ATTEMPTS:
            self._display.note(f"{name}: {one_line(str(outcome.message))}; trying again ({worker.attempt + 1} of {ATTEMPTS})")
            self._start(worker, task, attempt=worker.attempt + 1)
            return
        self._display.working(worker.slot, "")
        self._paces[task.kind].taken.append(outcome.seconds)
        self._take_in(task, outcome, running.place)
        # a model in training counts among those that wait
        running_on = sum(other.task is not None and not isinstance(other.task, TrainingOf) for other in self._workers)
        self._display.to_go(sum(self._waiting().values()) + running_on, self._seconds_left())

    def _take_in(self, task: Task, outcome: Outcome, place: Place) -> None:
        """Keeps the result of a task."""
        match task:
            case TrainingOf():
                self._finish_training(str(task.planned.model_key), outcome)
            case QualityOf():
                self._finish_quality(task.planned, outcome, place)
            case CostOf():
                self._keep_cost(task, outcome, place)
                self._finish_cells()
            case CostsOf():
                for cost, answer in _answers(task, outcome, place):
                    self._keep_cost(cost, answer.outcome, answer.place)
                self._finish_cells()

    def _finish_training(self, key: str, outcome: Outcome) -> None:
        if outcome.status is Status.OK and not (model_dir(self._settings.out, key) / "model.json").is_file():
            message = "training wrote no model.json"
            outcome = replace(outcome, status=Status.CRASH, phase="training", type="FileNotFoundError", message=message)
        if outcome.status is Status.OK:
            self._faults.pop(key, None)
            self._training_seconds[key] = outcome.seconds
        else:
            self._training_failures[key] = outcome

    def _finish_quality(self, planned: Planned, outcome: Outcome, place: Place) -> None:
        key = planned.model_key
        if key is None or outcome.type != DAMAGED or planned.key in self._sent_back:
            self._keep_quality(planned, outcome, place)
            return
        self._sent_back.add(planned.key)
        if key not in self._retrained:  # else another cell of this model saw it first
            self._display.note(f"{self._settings.labels(planned.cell)}: {one_line(str(outcome.message))}; the model is trained anew")
            self._retrained.add(key)
            self._faults[key] = "damaged"
            (model_dir(self._settings.out, key) / "model.json").unlink(missing_ok=True)
        self._qualities.insert(0, planned)

    def _keep_quality(self, planned: Planned, outcome: Outcome, place: Place) -> None:
        """Writes a quality: its raw samples and, with what is known of its cost, the cell's record."""
        outcome = self._portable(checked(outcome, QUALITY_FIELDS))
        self._keep_raw(planned.key, outcome)
        origin = self._origin(planned.cell, place)
        self._known_qualities[planned.key] = quality_of(planned, outcome, environment=origin[0], provenance=origin[1])
        self._seconds[planned.key] += outcome.seconds
        self._finish_cells()
        if planned.key not in self._done:  # its cost comes later; if the run ends before, the quality is kept
            self._write(planned)

    def _keep_cost(self, task: CostOf, outcome: Outcome, place: Place) -> None:
        """Writes the cost of a shape by the processes so far."""
        planned = task.planned
        outcome = self._portable(checked(outcome, COST_FIELDS))
        self._keep_raw(planned.key, outcome, kinds=() if task.number else planned.anew, number=task.number)
        environment, provenance = self._origin(planned.cell, place)
        before = self._measured_costs[planned.key]
        cost = cost_of(task, outcome, before=before, environment=environment, provenance=provenance)
        write_cost(self._settings.out, cost)
        self._measured_costs[planned.key], self._known_costs[planned.key] = cost, half_of(cost)
        if cost.status is not Status.OK:
            self._costs = [other for other in self._costs if isinstance(other, CostsOf) or other.planned.key != planned.key]
        cells = [one for one in self._cells.values() if one.cost_key == planned.key]
        for one in cells:
            self._seconds[one.key] += outcome.seconds / len(cells)

    def _portable(self, outcome: Outcome) -> Outcome:
        """An outcome that holds no folder of this machine, as records keep it."""
        settings = self._settings
        places = {name: getattr(settings, name) for name in ("out", "data_dir", "cache_dir", "dataset_file")}
        message, log = (text and without_paths(text, **places) for text in (outcome.message, outcome.log_tail))
        return replace(outcome, message=message, log_tail=log)

    def _keep_raw(self, key: str, outcome: Outcome, *, kinds: Sequence[str] | None = None, number: int = 0) -> None:
        """Writes the raw samples of a measurement that went well; of one that did not, none are left.

        Samples are named ``KIND/NAME``, those of a shape's second process ``KIND/NAME/1``, and so on. Of a cost, ``kinds`` are measured
        anew; the samples of other kinds stay.
        """
        path, samples = raw_path(self._settings.out, key), {}
        if kinds is not None and path.is_file():
            unreadable = (OSError, ValueError, zipfile.BadZipFile)
            # given a path that is no archive, numpy does not close it
            with contextlib.suppress(*unreadable), path.open("rb") as file, np.load(file, allow_pickle=False) as earlier:
                samples = {name: earlier[name] for name in earlier.files if name.partition("/")[0] not in kinds}
        raw = (outcome.value.get("raw") or {}) if outcome.status is Status.OK else {}
        samples |= {f"{name}/{number}" if number else name: array for name, array in raw.items()}
        if samples or outcome.status is Status.OK:
            write_raw(self._settings.out, key, samples)
        else:
            path.unlink(missing_ok=True)

    def _renew_others(self) -> None:
        """Writes the newest cost of its shape into each record outside this call that holds an older one."""
        for record in other_records(self._settings.out, {planned.key for planned in self._plan.cells}):
            cost = None if record.cost is None else self._known_costs.get(record.cost.key)
            if cost is not None and cost.origin != record.cost:
                write_record(self._settings.out, with_cost(record, cost))

    def _finish_cells(self) -> None:
        """Writes and shows the record of each cell that has nothing left to measure."""
        tasks = [worker.task for worker in self._workers if worker.task is not None]
        qualities = {planned.key for planned in self._qualities}
        qualities |= {task.planned.key for task in tasks if isinstance(task, QualityOf)}
        costs = {cost.planned.key for task in (*self._costs, *tasks) for cost in costs_of(task)}
        for planned in self._cells.values():
            if planned.key in self._done or planned.key in qualities or planned.cost_key in costs:
                continue
            self._done.add(planned.key)
            if planned.with_quality is not None and not planned.measures_quality:  # before the record, which says that all is there
                copy_raw(self._settings.out, planned.with_quality.cell_key, planned.key)
            record = self._write(planned)
            remove_records(self._settings.out, planned.supersedes)
            self._tell(planned, record)

    def _write(self, planned: Planned) -> Record:
        quality = self._known_qualities[planned.key]
        cost = self._known_costs.get(planned.cost_key or "") or known_cost(planned.with_cost or planned.known)
        record = record_of_halves(planned, quality, cost)
        write_record(self._settings.out, record)
        return record

    def _origin(self, cell: Cell, place: Place) -> tuple[Environment, Provenance]:
        """The machine and the code behind what was just measured."""
        self._position += 1
        order = Order(seed=self._settings.order_seed, position=self._position)
        origin = replace(self._provenance, utc=place.when(), order=order, workers=self._settings.workers)
        return typed(place.environment(cell), Environment, where="environment", what="an environment"), origin

    def _name(self, task: Task) -> str:
        """The label of what a task is about: a cell, or the first cell of a shape."""
        first = first_of(task)
        if not isinstance(first, CostOf):
            return self._settings.labels(first.planned.cell)
        key = first.planned.key
        return next((self._settings.labels(one.cell) for one in self._cells.values() if one.cost_key == key), key[:12])

    def _show(self, worker: Worker, phase: str) -> None:
        if worker.task is None:
            return
        name = self._name(worker.task)
        if isinstance(worker.task, TrainingOf):
            if phase.startswith(("epoch", "training anew")):
                self._display.training(f"{name}: {phase}")
            phase = phase if phase.startswith("training") else f"training, {phase}"
        self._display.working(worker.slot, f"{name}: {phase}")

    def _tell(self, planned: Planned, record: Record) -> None:
        error = record.error
        details = [shown_metrics(record)] if error is None else [f"in {error.phase}: {error.message}"[:160]]
        details.append(duration(self._seconds[planned.key]))
        training_seconds = self._training_seconds.pop(planned.model_key or "", None)
        if training_seconds is not None:
            details.append(f"(model trained in {duration(training_seconds)})")
        self._display.finished(
            CellDone(
                number=len(self._done),
                total=len(self._cells),
                status=record.status,
                label=self._settings.labels(planned.cell),
                details="  ".join(one_line(part) for part in details if part),
                seconds_left=self._seconds_left(),
            )
        )

    def _waiting(self) -> Mapping[Lane, int]:
        return {"training": len(self.models_to_train()), "quality": len(self._qualities), "cost": len(self._costs)}

    def _seconds_left(self) -> float:
        """Seconds for the tasks that wait or run, each as if it had just begun; fewer tasks than places take as long as one."""
        places = len(self._workers)
        at_once = {"training": places, "quality": places, "cost": 1 if self._executor.costs_alone else places}
        counts = Counter(self._waiting()) + Counter(worker.task.kind for worker in self._workers if worker.task is not None)
        counts["training"] = len(self.models_to_train())  # one in training is already counted here
        return sum(math.ceil(count / at_once[kind]) * self._paces[kind].mean() for kind, count in counts.items())


def _in_rounds(costs: Sequence[PlannedCost], *, seed: int) -> list[CostOf]:
    """The processes of all shapes, spread over the run: each round measures every shape once, in an order of its own."""
    draw, tasks = random.Random(seed), []  # noqa: S311 - an order, not a secret
    for number in range(max((len(cost.jobs) for cost in costs), default=0)):
        this_round = [
            CostOf(planned=cost, kinds=cost.jobs[number], number=cost.first + number) for cost in costs if number < len(cost.jobs)
        ]
        if number:
            draw.shuffle(this_round)  # the first round has the order of the cells, which is random, too
        tasks += this_round
    return tasks


def _answers(task: CostsOf, outcome: Outcome, place: Place) -> list[tuple[CostOf, Answer]]:
    """Each cost with its own answer; where the allocation failed as a whole, its outcome is that of each shape."""
    if outcome.status is Status.OK:
        return list(zip(task.costs, outcome.value, strict=True))
    firsts = {cost.planned.key: cost for cost in reversed(task.costs)}
    return [(cost, Answer(outcome=outcome, place=place)) for cost in firsts.values()]


def _may_be_bad_luck(outcome: Outcome) -> bool:
    """Whether a second try may end otherwise."""
    return outcome.status is Status.CRASH and outcome.retry
