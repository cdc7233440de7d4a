"""What a reader must not conclude from the records, in sentences."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.frontier import COSTS
from benchmarks.analysis.origins import Source
from benchmarks.analysis.references import find_references
from benchmarks.analysis.trained import endings
from benchmarks.measures import WIDE_SPREAD
from benchmarks.records import Record
from benchmarks.report.names import COST_NAMES, Names, backbone_name, dataset_name, is_synthetic
from benchmarks.report.tables.noise import timing_spreads
from benchmarks.report.tables.upkeep import disturbance
from benchmarks.report.texts import ALWAYS_LIMITED
from benchmarks.text import listed, some

_METRIC = QUALITY_METRICS[0]


def limits(records: Sequence[Record], every: Sequence[Source], among: Sequence[Configuration], names: Names) -> list[str]:
    """What a reader must not conclude from these records; ``every`` are the measurements behind them."""
    trained = [one for one in among if one.cell.training != "none" and one.quality(_METRIC).value is not None]
    said = [*_seeds_and_intervals(trained), *_not_converged(among), *_not_trained(among), *_noisy(among)]
    said += filter(None, [disturbance(every)])
    missing = [COST_NAMES[cost] for cost in COSTS if all(COSTS[cost](one).value is None for one in among)]
    if missing and any(record.ok for record in records):
        said.append(f"Not measured in any cell: {listed(missing)}.")
    data = sorted({dataset_name(one) for one in among})
    if all(is_synthetic(one) for one in among):
        said.append("The data are synthetic: a process with a known ceiling. What holds here need not hold on logs of people.")
    elif len(data) == 1:
        said.append(f"One dataset, {data[0]}: what holds here need not hold elsewhere.")
    if {one.cell.device for one in among} == {"cpu"}:
        said.append("Measured on a CPU alone: ratios of FLOPs and bytes travel to accelerators, ratios of times need not.")
    counted = [names(one) for one in among if one.cell.counted_only]
    if counted:
        said.append(f"Counted on shapes alone and never run, so that nothing of it is timed: {some(counted)}.")
    return [*said, *ALWAYS_LIMITED]


def _seeds_and_intervals(trained: Sequence[Configuration]) -> list[str]:
    if not trained:
        return ["No trained model was measured: this is cost alone, and floors."]
    said = []
    single = [one for one in trained if len(one.quality(_METRIC).seeds) == 1]
    if single:
        share = (
            "every configuration of a trained model"
            if len(single) == len(trained)
            else f"{len(single)} of {len(trained)} configurations of trained models, each served as it was trained"
        )
        said.append(f"One seed for {share}: their intervals are over users and hold nothing of training anew, so no verdict compares them.")
    unpaired = sorted({quality.reason for one in trained if (quality := one.quality(_METRIC)).low is None})
    if unpaired:
        said.append(f"Some qualities have no interval: {'; '.join(unpaired)}.")
    return said


def _not_converged(among: Sequence[Configuration]) -> list[str]:
    ends = endings(among)
    said = []
    if ends.not_converged:
        said.append(f"{ends.not_converged} of {ends.models} trained models had not converged; longer training may change their order.")
    if ends.not_recorded:
        said.append(f"Of {ends.not_recorded} of {ends.models} trained models the records do not say whether they converged.")
    return said


def _not_trained(among: Sequence[Configuration]) -> list[str]:
    """What the references could not be chosen from, because it was not trained; of some layouts what of others was."""
    lacking: dict[str, list[tuple[str, ...]]] = {}
    for one in among:
        if one.is_tokens and one.trained and not one.changed:
            lacking.setdefault(backbone_name(one), []).append(find_references(one, among).not_trained)
    backbones: dict[str, list[str]] = {}
    for backbone, each in lacking.items():
        every = list(dict.fromkeys(name for missing in each for name in missing))
        everywhere = [name for name in every if all(name in missing for missing in each)]
        elsewhere = [name for name in every if name not in everywhere]
        parts = [listed(everywhere)] if everywhere else []
        parts += [f"at some layouts {listed(elsewhere)}"] if elsewhere else []
        if parts:
            backbones.setdefault("; ".join(parts), []).append(backbone)
    return [
        f"References are the best on validation of what was trained. Not trained for {listed(named)}: {missing}."
        for missing, named in backbones.items()
    ]


def _noisy(among: Sequence[Configuration]) -> list[str]:
    """The timings that spread widely in most configurations."""
    said = []
    for metric, spreads in timing_spreads(among).items():
        wide = sum(spread > WIDE_SPREAD for spread in spreads.values())
        if 2 * wide > len(spreads):
            said.append(f"Noisy: {metric.replace('_', ' ')} spreads by over {WIDE_SPREAD:.0%} in {wide} of {len(spreads)} configurations.")
    return said
