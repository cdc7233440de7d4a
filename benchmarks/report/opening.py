"""What a report says first: which conclusions its numbers do not support, and whether there is a frontier at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.analysis.trained import Endings, endings, steps_in_words, taught
from benchmarks.analysis.worth import AboveModels, Worth, floors_above, worths
from benchmarks.labels import METRIC_NAMES
from benchmarks.report.names import NOT_CONVERGED, Names, backbone_name, marked, name_all, peers_key, short_titles_of
from benchmarks.text import listed

_METRIC = QUALITY_METRICS[0]
_FEW = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Caution:
    """A conclusion that the numbers do not support: a sentence to read first, and its detail, shown on demand."""

    short: str
    detail: str = ""


def opening(among: Sequence[Configuration], names: Names) -> tuple[Caution, ...]:
    """The first sentences: models that had not converged, a long history that is worth nothing, floors above models, few seeds."""
    groups: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        groups.setdefault(peers_key(one), []).append(one)
    cautions = list(_endings_in_words(endings(among), names))
    titles = short_titles_of(groups)
    for key, members in groups.items():
        data = f"On {titles[key]}" if len(groups) > 1 else "On this data"
        of_group = name_all(members)
        cautions += _worth_nothing(worths(members, _METRIC), data)
        cautions += [_above(floor, data, of_group) for floor in floors_above(members, _METRIC)[:1]]
    return (*cautions, *_teachers(among), *_few_seeds(among))


def worth_in_words(worth: Worth, names: Names) -> str:
    """What the long history is worth to one backbone: a verdict over seeds, numbers side by side of one seed."""
    full, no_token = worth.full.quality(_METRIC), worth.no_token.quality(_METRIC)
    pair = f"{_value(full)} for {names(worth.full)} and {_value(no_token)} for {names(worth.no_token)}"
    gap = f"The difference is {with_interval(worth.gap, 'signed')}{_over(worth.gap)}.{_least(worth.gap)}"
    return f"{_unequal(worth)}{_backbone(worth)}: {METRIC_NAMES[_METRIC]} is {pair}. {gap} {_verdict(worth)}"


def over_what(estimate: Estimate) -> str:
    """What an interval is over: users alone where there is one seed."""
    return "over the users of one seed" if estimate.of_one_seed else "over seeds and users"


def _endings_in_words(ends: Endings, names: Names) -> list[Caution]:
    cautions = []
    if ends.not_converged:
        share = f"{ends.not_converged} of {ends.models} trained models had not converged"
        stopped_names = [names(one) for one in ends.stopped]
        which = f" ({listed(stopped_names)})" if len(stopped_names) <= _FEW else f" (marked {NOT_CONVERGED})"
        short = f"{share}{which}: nothing that rests on them is settled."
        cautions.append(
            Caution(short=short, detail="A bound stopped their training before its plateau; longer training may change their order.")
        )
    if ends.not_recorded:
        share = "the trained models" if ends.not_recorded == ends.models else f"{ends.not_recorded} of {ends.models} trained models"
        short = f"The records do not say whether {share} converged."
        cautions.append(Caution(short=short, detail="Longer training may change the order of models that had not."))
    return cautions


def _teachers(among: Sequence[Configuration]) -> list[Caution]:
    """Which tokens full attention taught, and that it taught nothing else."""
    tokens = [one for one in among if one.is_tokens and one.trained]
    taught_tokens = [one for one in tokens if taught(one)]
    if not taught_tokens:
        return []
    short = f"{_whose(taught_tokens, tokens)} were taught by full attention of the same weights. Nothing else had a teacher."
    detail = (
        "A training step of taught tokens also runs full attention over the window. So a difference from pooling or another rival comes "
        "from the method and the teacher together. At 0 tokens, a taught model may score lower than one that was not taught."
    )
    return [Caution(short=short, detail=detail)]


def _whose(taught_tokens: Sequence[Configuration], tokens: Sequence[Configuration]) -> str:
    """Whose expert tokens were taught: whole backbones by name, else how many configurations."""
    if len(taught_tokens) == len(tokens):
        return "The expert tokens"
    names = {one.cell.backbone: backbone_name(one) for one in taught_tokens}
    if len(taught_tokens) == sum(one.cell.backbone in names for one in tokens):
        return f"The expert tokens of {listed(sorted(names.values()))}"
    return f"The expert tokens of {len(taught_tokens)} of {len(tokens)} configurations"


def _few_seeds(among: Sequence[Configuration]) -> list[Caution]:
    """Says that the models have too few seeds for a verdict."""
    trained = [one for one in among if one.trained and one.quality(_METRIC).value is not None]
    single = [one for one in trained if (quality := one.quality(_METRIC)).low is not None and quality.of_one_seed]
    two = [one for one in trained if (quality := one.quality(_METRIC)).of_few_seeds and not quality.of_one_seed]
    details = {
        "One seed": "An interval of one seed covers its users alone, not another training. So its numbers are given without a verdict.",
        "Two seeds": "A verdict between trained models takes three seeds. With two, the numbers are given without a verdict.",
    }
    cautions = []
    for (seeds, detail), ones in zip(details.items(), (single, two), strict=True):
        share = "" if len(ones) == len(trained) else f" for {len(ones)} of {len(trained)} configurations of trained models"
        if ones:
            cautions.append(Caution(short=f"{seeds}{share}: no verdict{' between those' if share else ''}.", detail=detail))
    return cautions


def _worth_nothing(every: Sequence[Worth], data: str) -> list[Caution]:
    nothing = [worth for worth in every if worth.nothing]
    if not nothing:
        return []
    each = [
        f"{marked(_backbone(worth), worth.full, worth.no_token)} {_value(worth.full.quality(_METRIC))} with full history and "
        f"{_value(worth.no_token.quality(_METRIC))} with no token, {with_interval(worth.gap, 'signed')}{_training_note(worth)}"
        for worth in nothing
    ]
    backbones = listed([_backbone(worth) for worth in nothing])
    short = f"{data} the long history is worth nothing that we can measure, on {backbones}. {no_verdict_in_words(nothing)}".rstrip()
    return [Caution(short=short, detail=f"{METRIC_NAMES[_METRIC]}: {'; '.join(each)}.")]


def no_verdict_in_words(every: Sequence[Worth]) -> str:
    """That too few seeds stand behind what was found for some backbones, or for all; empty where three stand behind each."""
    few = [worth for worth in every if worth.gap.of_few_seeds]
    if not few:
        return ""
    of_whom = "" if len(few) == len(every) else f" for {listed([_backbone(worth) for worth in few])}"
    return f"It is no verdict{of_whom}, {as_there_are(min(len(worth.gap.by_seed) for worth in few))}."


def as_there_are(seeds: int) -> str:
    """Why so few seeds, one or two, give no verdict."""
    return "as there is only one seed" if seeds < 2 else "as there are only two seeds"


def _above(above: AboveModels, data: str, names: Names) -> Caution:
    level = f"{names(above.floor)}, which learns nothing ({METRIC_NAMES[_METRIC]} {_value(above.floor.quality(_METRIC))}),"
    gap = f"Its difference from the floor is {with_interval(above.gap, 'signed')}{_over(above.gap)}."
    best = f"{names(above.best)}, the best on validation, reaches {_value(above.best.quality(_METRIC))}. {gap}"
    if above.beats_all:
        every = "the one trained model" if above.models == 1 else f"every one of {above.models} trained models"
        return Caution(short=f"{data} {level} scores above {every}.", detail=text.sentence(best))
    names_below = [names(one) for one in above.below]
    which = listed(names_below) if len(names_below) <= _FEW else listed([*names_below[: _FEW - 1], f"{len(names_below) - _FEW + 1} more"])
    short = f"{data} {level} scores above {len(names_below)} of {above.models} trained models."
    return Caution(short=short, detail=f"Models below it: {which}. {text.sentence(best)}")


def _verdict(worth: Worth) -> str:
    if worth.nothing:
        if worth.gap.of_few_seeds:
            seeds = "one seed shows" if worth.gap.of_one_seed else "two seeds show"
            return f"So {seeds} no worth of the long history, which is no verdict."
        return "So the long history is worth nothing that we can measure."
    if worth.gap.sign > 0 and not worth.unequal:
        return "So the long history pays, at 95%."
    if worth.gap.low is None:
        return f"Without an interval there is no verdict ({worth.gap.reason})."
    if worth.unequal:
        return "Training is not equal, so there is no verdict."
    return "One seed gives no verdict." if worth.gap.of_one_seed else "Two seeds agree, but give no verdict."


def _unequal(worth: Worth) -> str:
    return f"Training is not equal ({'; '.join(worth.unequal)}). " if worth.unequal else ""


def _training_note(worth: Worth) -> str:
    steps = steps_in_words(worth.full, worth.no_token)
    reasons = list(worth.unequal) or ([steps] if steps else [])
    return f", {'training is not equal: ' if worth.unequal else ''}{'; '.join(reasons)}" if reasons else ""


def _over(gap: Estimate) -> str:
    return "" if gap.low is None else f", {over_what(gap)}"


def _least(gap: Estimate) -> str:
    half = gap.half_width
    return "" if half is None else f" The smallest detectable difference is {text.ratio(half)}."


def _value(estimate: Estimate) -> str:
    return text.MISSING if estimate.value is None else text.ratio(estimate.value)


def _backbone(worth: Worth) -> str:
    return backbone_name(worth.full)
