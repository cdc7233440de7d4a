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
    """What a reader must not conclude from these records. ``every`` are the measurements behind them."""
    trained = [one for one in among if one.cell.training != "none" and one.quality(_METRIC).value is not None]
    sentences = [
        *_seeds_and_intervals(trained, measured=any(one.measured for one in among)),
        *_not_converged(among),
        *_not_trained(among),
        *_noisy(among),
    ]
    sentences += filter(None, [disturbance(every)])
    missing = [COST_NAMES[cost] for cost in COSTS if all(COSTS[cost](one).value is None for one in among)]
    if missing and any(record.ok for record in records):
        sentences.append(f"Not measured in any cell: {listed(missing)}.")
    data = sorted({dataset_name(one) for one in among})
    if all(is_synthetic(one) for one in among):
        sentences.append("The data are synthetic: a process with a known ceiling. What is true here may not be true on logs of people.")
    elif len(data) == 1:
        sentences.append(f"One dataset, {data[0]}: what is true here may not be true elsewhere.")
    if {one.cell.device for one in among} == {"cpu"}:
        sentences.append("Measured on a CPU alone: ratios of FLOPs and bytes also apply to accelerators, ratios of times may not.")
    untimed_names = [names(one) for one in among if one.cell.counted_only]
    if untimed_names:
        sentences.append(f"Counted on shapes alone and never run, so without times: {some(untimed_names)}.")
    return [*sentences, *ALWAYS_LIMITED]


def _seeds_and_intervals(trained: Sequence[Configuration], *, measured: bool) -> list[str]:
    if not trained:
        return ["No trained model was measured" + (": this is cost alone, and floors." if measured else ".")]
    sentences = []
    single = [one for one in trained if len(one.quality(_METRIC).seeds) == 1]
    if single:
        share = (
            "every configuration of a trained model"
            if len(single) == len(trained)
            else f"{len(single)} of {len(trained)} configurations of trained models, each served as it was trained"
        )
        sentences.append(f"One seed for {share}. Their intervals cover users alone, not another training, so no verdict rests on them.")
    reasons = sorted({quality.reason for one in trained if (quality := one.quality(_METRIC)).low is None})
    if reasons:
        sentences.append(f"Some qualities have no interval: {'; '.join(reasons)}.")
    return sentences


def _not_converged(among: Sequence[Configuration]) -> list[str]:
    ends = endings(among)
    sentences = []
    if ends.not_converged:
        sentences.append(f"{ends.not_converged} of {ends.models} trained models had not converged; longer training may change their order.")
    if ends.not_recorded:
        sentences.append(f"The records do not say whether {ends.not_recorded} of {ends.models} trained models converged.")
    return sentences


def _not_trained(among: Sequence[Configuration]) -> list[str]:
    """The models that references could not be chosen from, as they were not trained: at any layout, or at some layouts only."""
    missing_by_backbone: dict[str, list[tuple[str, ...]]] = {}
    for one in among:
        if one.is_tokens and one.trained and not one.changed:
            missing_by_backbone.setdefault(backbone_name(one), []).append(find_references(one, among).not_trained)
    backbones: dict[str, list[str]] = {}
    for backbone, each in missing_by_backbone.items():
        every = list(dict.fromkeys(name for missing in each for name in missing))
        everywhere = [name for name in every if all(name in missing for missing in each)]
        elsewhere = [name for name in every if name not in everywhere]
        parts = [listed(everywhere)] if everywhere else []
        parts += [f"at some layouts {listed(elsewhere)}"] if elsewhere else []
        if parts:
            backbones.setdefault("; ".join(parts), []).append(backbone)
    sentences = [f"Not trained for {listed(names)}: {missing}." for missing, names in backbones.items()]
    return [" ".join(["Each reference is the best on validation of the models that were trained.", *sentences])] if sentences else []


def _noisy(among: Sequence[Configuration]) -> list[str]:
    """The timings that spread widely in most configurations."""
    sentences = []
    for metric, spreads in timing_spreads(among).items():
        wide = sum(spread > WIDE_SPREAD for spread in spreads.values())
        if 2 * wide > len(spreads):
            sentences.append(
                f"Noisy: {metric.replace('_', ' ')} spreads by over {WIDE_SPREAD:.0%} in {wide} of {len(spreads)} configurations."
            )
    return sentences
