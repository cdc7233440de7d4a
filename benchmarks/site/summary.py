"""What the index of a site says: every run, and over the datasets what the long history is worth and what tokens keep of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, configurations
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.references import Contrast, best_on_validation, compare
from benchmarks.analysis.trained import endings
from benchmarks.analysis.worth import Worth, floors_above, worths
from benchmarks.labels import METRIC_NAMES
from benchmarks.records import Record
from benchmarks.report.names import UNEQUAL, backbone_name, dataset_name, in_order, name_all, peers_key
from benchmarks.site.command import PAGES
from benchmarks.text import listed

METRIC = QUALITY_METRICS[0]
METRIC_NAME = METRIC_NAMES[METRIC]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLine:
    """A run in the index; ``said`` is what a reader has to know of it first."""

    name: str
    link: str
    data: str
    devices: str
    cells: str
    seeds: str
    measured: str
    said: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorthLine:
    """One backbone on one dataset: full history, no token, what lies between, and what the best tokens keep."""

    data: str
    backbone: str
    name: str
    link: str
    full: str
    no_token: str
    gap: str
    verdict: str
    tone: str
    tokens: str
    kept: str


def link_of(name: str) -> str:
    """The path from the index to the report of a run."""
    return f"{PAGES}/{quote(name)}.html"


def run_line(name: str, records: Sequence[Record]) -> RunLine:
    """A run in one line."""
    among = configurations(records)
    statuses = Counter(record.status.value for record in records)
    origins = [half for record in records for half in (record.quality, record.cost) if half is not None]
    days = sorted({origin.provenance.utc[:10] for origin in origins} - {""})
    return RunLine(
        name=name,
        link=link_of(name),
        data=listed(sorted({dataset_name(one) for one in among})),
        devices=listed(sorted({one.cell.device for one in among})),
        cells=listed([f"{count:,} {status}" for status, count in sorted(statuses.items())]),
        seeds=listed([str(seed) for seed in sorted({record.cell.seed for record in records})]),
        measured=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else text.MISSING,
        said=tuple(_cautions(among)),
    )


def worth_lines(name: str, records: Sequence[Record]) -> list[WorthLine]:
    """A line for each dataset and backbone of a run that has full history and no token."""
    groups: dict[tuple[str, ...], list[Configuration]] = {}
    for one in in_order(configurations(records)):
        groups.setdefault(peers_key(one), []).append(one)
    return [_worth_line(name, worth, members) for members in groups.values() for worth in worths(members, METRIC)]


def _cautions(among: Sequence[Configuration]) -> Iterator[str]:
    ends = endings(among)
    if ends.not_converged:
        yield f"{ends.not_converged} of {ends.models} models had not converged"
    if ends.not_recorded:
        yield f"of {ends.not_recorded} of {ends.models} models it is not recorded whether they converged"
    ranked = [one for one in among if one.trained and one.quality(METRIC).value is not None]
    single = sum(one.quality(METRIC).of_one_seed for one in ranked)
    if single:
        yield "one seed" if single == len(ranked) else f"one seed for {single} of {len(ranked)} configurations of trained models"
    if not ranked:
        yield "cost alone"
    for above in floors_above(among, METRIC)[:1]:
        yield f"{backbone_name(above.floor)}, which learns nothing, scores above {len(above.below)} of {above.models} models"


def _worth_line(name: str, worth: Worth, members: Sequence[Configuration]) -> WorthLine:
    own = [one for one in members if one.cell.backbone == worth.backbone and one.window == worth.full.window]
    best = best_on_validation([one for one in own if one.is_tokens and not one.changed and one.quality(METRIC).value is not None])
    labels = name_all([worth.full, worth.no_token, *([best] if best is not None else [])])
    verdict, tone = _verdict(worth)
    return WorthLine(
        data=dataset_name(worth.full),
        backbone=backbone_name(worth.full),
        name=name,
        link=link_of(name),
        full=with_interval(worth.full.quality(METRIC)),
        no_token=with_interval(worth.no_token.quality(METRIC)),
        gap=with_interval(worth.gap, "signed"),
        verdict=verdict,
        tone=tone,
        tokens=text.MISSING if best is None else f"{labels(best)}: {with_interval(best.quality(METRIC))}",
        kept=text.MISSING if best is None else _share(compare(best, members, METRIC)),
    )


def _share(contrast: Contrast) -> str:
    """The share kept of full history's quality; after unequal training also why it is no verdict."""
    if contrast.retention.value is None:
        return "no share to keep"
    reasons = contrast.all_unequal
    return with_interval(contrast.retention, "percent") + (f" {UNEQUAL} {'; '.join(reasons)}" if reasons else "")


def _verdict(worth: Worth) -> tuple[str, str]:
    if worth.nothing:
        few = "" if not worth.gap.of_few_seeds else f", {'one seed' if worth.gap.of_one_seed else 'two seeds'}, no verdict"
        return f"worth nothing measurable{few}", "warn"
    if worth.unequal:
        return f"training is not equal: {'; '.join(worth.unequal)}", "warn"
    if worth.gap.sign > 0:
        return "pays, at 95%", "good"
    if worth.gap.low is None:
        return f"no interval, no verdict: {worth.gap.reason}", ""
    return ("one seed, no verdict" if worth.gap.of_one_seed else "two seeds, no verdict"), ""
