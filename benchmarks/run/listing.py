"""What ``--list`` prints: each cell with why it would be measured, and how long those still to measure may take."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.grids import shuffled
from benchmarks.keys import model_key
from benchmarks.records import Record
from benchmarks.run.call import Call
from benchmarks.run.plan import Plan, model_fault
from persrec.commandline import duration


def list_before_first_run(call: Call) -> str:
    """The list of a call whose folder is not there yet: every cell is missing, and no data need be prepared to say so."""
    only = call.options.only
    cells = {cell for cell in call.cells if (only != "quality" or cell.has_quality) and (only != "cost" or not cell.is_floor)}
    lines = [f"{'missing' if cell in cells else f'no {only}':10} {call.labels(cell)}" for cell in shuffled(call.cells)]
    trained = (cell for cell in cells if cell.training != "none" and only != "cost")
    models = {model_key(cell, dataset_digest=call.digests[cell.data]) for cell in trained}
    return _text(call, lines, cells=len(cells), models=len(models), time=_by_estimate(call, cells=len(cells), models=len(models)))


def list_of_plan(call: Call, plan: Plan) -> str:
    """The list of a call whose folder holds records: what is done takes no time, and says how long the rest may take."""
    lines = [f"{plan.reason(planned):10} {call.labels(planned.cell)}" for planned in plan.cells]
    code_of = {planned.model_key: planned.code["training"] for planned in plan.qualities() if planned.model_key}
    models = sum(model_fault(call.out, key, code=code) is not None for key, code in code_of.items())
    cells = len(plan.to_do())
    past = _past_seconds([planned.known for planned in plan.cells if planned.known and plan.reason(planned) == "done"])
    time = _by_past(call, plan, past, models=models) if past.qualities or past.costs else _by_estimate(call, cells=cells, models=models)
    return _text(call, lines, cells=cells, models=models, time=time)


def _by_estimate(call: Call, *, cells: int, models: int) -> str:
    estimate = call.grid.estimate
    seconds = _training_seconds(models, call, estimate.seconds_per_model) + cells * estimate.seconds_per_cell
    return f"{duration(seconds)} by the grid's own estimate"


def _by_past(call: Call, plan: Plan, past: "PastSeconds", *, models: int) -> str:
    estimate = call.grid.estimate
    seconds = _training_seconds(models, call, past.mean(past.models, estimate.seconds_per_model))
    seconds += len(plan.qualities()) * past.mean(past.qualities, estimate.seconds_per_cell)
    seconds += len(plan.costs_to_measure()) * past.mean(past.costs, estimate.seconds_per_cell)
    return f"{duration(seconds)} as the cells that are done took"


def _training_seconds(models: int, call: Call, seconds_per_model: float) -> float:
    return math.ceil(models / call.workers) * seconds_per_model


def _text(call: Call, lines: Iterable[str], *, cells: int, models: int, time: str) -> str:
    summary = f"{len(call.cells)} cells, {cells} to measure, {models} models to train; about {time}"
    return "\n".join([*lines, summary]) + "\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class PastSeconds:
    """Seconds that each model, each quality and each shape's cost took; cells share models and costs."""

    models: Mapping[str, float]
    qualities: Mapping[str, float]
    costs: Mapping[str, float]

    @staticmethod
    def mean(seconds: Mapping[str, float], guess: float) -> float:
        """The mean, or the guess where nothing was measured."""
        return sum(seconds.values()) / len(seconds) if seconds else guess


def _past_seconds(records: Sequence[Record]) -> PastSeconds:
    return PastSeconds(
        models={record.model.key: record.model.train_seconds for record in records if record.model and record.model.train_seconds},
        qualities={record.cell_key: sum(record.quality.seconds.values()) for record in records if record.quality is not None},
        costs={record.cost.key: sum(record.cost.seconds.values()) for record in records if record.cost is not None},
    )
