"""Whether PerSRec is better than its rivals: a sentence for each backbone, with each rival's gap and how sure that is."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.analysis.rivals import RivalPair, rival_pairs
from benchmarks.labels import METRIC_NAMES
from benchmarks.report.names import Names, backbone_name, family
from benchmarks.text import listed

_METRIC = QUALITY_METRICS[0]
HOW = (
    f"PerSRec beside rivals that keep as many vectors of the same history. A number is PerSRec's {METRIC_NAMES[_METRIC]} minus its "
    "rival's, with the 95% interval over the same users, and over seeds where there are several. Better and worse are said at 95% over "
    "three seeds or more of equal training. Pairs are at the longest window and the most tokens that both have; of these, those of the "
    "most seeds, and each side the best of its kind on validation."
)
_NONE = (
    "This run does not show whether PerSRec is better than pooling, memory or the like: no rival that keeps as many vectors of the same "
    "history was measured beside it."
)


def rivals_in_words(among: Sequence[Configuration], names: Names) -> tuple[str, ...]:
    """A sentence for each backbone where PerSRec has rivals, and one on those where it has none; empty where PerSRec has no quality."""
    own = {one.cell.backbone: one for one in among if one.is_tokens and not one.changed and one.quality(_METRIC).value is not None}
    if not own:
        return ()
    by_backbone: dict[str, list[RivalPair]] = {}
    for pair in rival_pairs(among, _METRIC):
        by_backbone.setdefault(pair.persrec.cell.backbone, []).append(pair)
    if not by_backbone:
        return (_NONE,)
    without = sorted(backbone_name(one) for backbone, one in own.items() if backbone not in by_backbone)
    sentences = [_of_backbone(pairs, names) for pairs in by_backbone.values()]
    return (*sentences, *([f"{listed(without)}: no rival that keeps as many vectors was measured beside PerSRec."] if without else []))


def _of_backbone(pairs: Sequence[RivalPair], names: Names) -> str:
    """``SASRec · PerSRec, 4 tokens scores above category: +0.2069 (+0.1877 to +0.2259), one seed, no verdict; ...``."""
    by_own: dict[Configuration, list[RivalPair]] = {}
    for pair in pairs:
        by_own.setdefault(pair.persrec, []).append(pair)
    return " ".join(f"{names(own)} {'; '.join(map(_beside, sorted(own_pairs, key=_highest_first)))}." for own, own_pairs in by_own.items())


def _highest_first(pair: RivalPair) -> tuple[float, str]:
    return -(pair.gap.value or 0.0), pair.rival.key


def _beside(pair: RivalPair) -> str:
    gap, rival = pair.gap, _rival(pair.rival)
    if gap.value is None:
        return f"is not compared with {rival}: {gap.reason}"
    return f"{_scores(pair)} {rival}: {with_interval(gap, 'signed')}, {how_sure(gap, pair.unequal)}"


def _scores(pair: RivalPair) -> str:
    """Better or worse where there is a verdict, above or below where there is none."""
    gap = pair.gap
    if gap.low is not None and gap.holds_zero:
        return "cannot be distinguished from"
    if not gap.value:
        return "ranks as well as"
    is_above = gap.value > 0
    if gap.sign and not pair.unequal:
        return "is better than" if is_above else "is worse than"
    return "scores above" if is_above else "scores below"


def how_sure(gap: Estimate, reasons: Sequence[str]) -> str:
    """How many seeds stand behind a difference, or why it is no verdict; ``reasons`` say why training was not equal."""
    if reasons:
        return f"no verdict, as training is not equal ({', '.join(reasons)})"
    if gap.low is None:
        return f"no interval, no verdict: {gap.reason}"
    seeds = "one seed" if gap.of_one_seed else f"{len(gap.by_seed)} seeds"
    return f"{seeds}, no verdict" if gap.of_few_seeds else seeds


def _rival(one: Configuration) -> str:
    return f"{one.cell.recent} recent items alone" if one.cell.compression == "recent" else family(one).name
