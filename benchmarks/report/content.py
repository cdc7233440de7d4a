"""The report's content: what is shown in which order, before it is written as a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, Record, configurations
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.frontier import COSTS, Frontier, frontier
from benchmarks.analysis.references import compare
from benchmarks.kernels.record import kernel_table
from benchmarks.noise.record import summary
from benchmarks.report import banner
from benchmarks.report.banner import Banner
from benchmarks.report.figures import curves
from benchmarks.report.figures.axes import METRIC_NAMES
from benchmarks.report.figures.frontier import COST_NAMES, Drawing, frontier_figure
from benchmarks.report.names import FAMILIES, Family, Names, context_key, family, in_order, name_all
from benchmarks.report.tables import Table, contrasts, evidence, experiments, ranking, upkeep
from benchmarks.report.tables.evidence import Failure
from benchmarks.report.tables.rivals import rivals_table
from benchmarks.report.tables.shares import shares_table
from benchmarks.report.texts import LEADS, NO_A_A, READING_A_FRONTIER, TITLES


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A part of a section: texts, then figures, then tables; ``folded`` tables open on demand."""

    title: str = ""
    texts: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    failures: tuple[Failure, ...] = ()
    points: tuple[str, ...] = ()
    glossary: tuple[Family, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A chapter of the report."""

    key: str
    title: str
    lead: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Configurations whose qualities and costs may stand in one figure: the same data, device and number format.

    ``everyone`` holds ablations and aged caches too, which answer a question on a model and are nothing one would serve.
    """

    key: str
    title: str
    configurations: tuple[Configuration, ...]
    everyone: tuple[Configuration, ...]
    names: Names
    ceiling: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Everything that a report says."""

    name: str
    several: bool  # contexts, so that each needs its title
    banner: Banner
    sections: tuple[Section, ...]
    ranked: tuple[Table, ...]
    frontiers: tuple[Drawing, ...]
    measurements: tuple[Mapping[str, Any], ...]


def content_of(
    records: Sequence[Record], *, name: str, proof: Mapping[str, Any] | None = None, kernels: Sequence[Mapping[str, Any]] = ()
) -> Content:
    """The content of a report over the records of one run, which hold at least one.

    ``proof`` is what ``benchmarks.noise`` found, ``kernels`` what ``benchmarks.kernels`` measured on each device.
    """
    among = in_order(configurations(records))
    names = name_all(among)
    contexts = contexts_of(among)
    found = {context.key: _frontiers(context) for context in contexts}
    frontiers = _frontier_section(contexts, found)
    ranked = tuple(ranking.ranked_table(c.configurations, found[c.key], c.names, key=f"ranking-{c.key}", where=c.title) for c in contexts)
    sections = (
        frontiers,
        _ranking_section(contexts, ranked),
        _tokens_section(contexts),
        _history_section(contexts),
        *_segments_section(contexts),
        _comparison_section(contexts),
        *_experiment_sections(contexts),
        *_shares_section(contexts),
        _amortisation_section(contexts),
        _feasibility_section(contexts, among),
        _ledger_section(among, names),
        *_kernel_section(kernels),
        _noise_section(records, among, names, proof),
        _failure_section(among, names),
        _provenance_section(records, among, names),
        _section("limits", (Group(points=tuple(banner.limits(records, _each_model_once(among), names))),)),
    )
    return Content(
        name=name,
        several=len(contexts) > 1,
        banner=banner.banner(records, among, names),
        sections=sections,
        ranked=ranked,
        frontiers=tuple(drawing for group in frontiers.groups for drawing in group.drawings),
        measurements=tuple(ranking.measurements(contexts, found, names)),
    )


def _section(key: str, groups: tuple[Group, ...]) -> Section:
    return Section(key=key, title=TITLES[key], lead=LEADS[key], groups=groups)


def contexts_of(among: Sequence[Configuration]) -> list[Context]:
    """Parts configurations by data, device and number format, in that order."""
    parts: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        parts.setdefault(context_key(one), []).append(one)
    names = [key[0] for key in parts]
    contexts = []
    for number, ((data, known, device, dtype), members) in enumerate(parts.items(), start=1):
        version = f", data {known[:8]}" if len({key[1] for key in parts if key[0] == data}) > 1 else ""
        title = f"{data}{version}, {device.upper() if device == 'cpu' else device}" + (f", {dtype}" if names.count(data) > 1 else "")
        contexts.append(
            Context(
                key=str(number),
                title=title,
                configurations=tuple(one for one in members if not one.is_experiment),
                everyone=tuple(members),
                names=name_all(members),
                ceiling=_ceiling(members),
            )
        )
    return contexts


def _ceiling(among: Iterable[Configuration]) -> Mapping[str, Mapping[str, float]]:
    for one in among:
        for record in one.records:
            ceiling = (record.get("dataset") or {}).get("ceiling")
            if isinstance(ceiling, Mapping):
                return {str(name): by_metric for name, by_metric in ceiling.items() if isinstance(by_metric, Mapping)}
    return {}


def _frontiers(context: Context) -> dict[str, dict[str, Frontier]]:
    return {cost: {metric: frontier(context.configurations, cost=cost, metric=metric) for metric in QUALITY_METRICS} for cost in COSTS}


def _frontier_section(contexts: Sequence[Context], found: Mapping[str, Mapping[str, Mapping[str, Frontier]]]) -> Section:
    groups = []
    for context in contexts:
        drawings, absent = [], []
        for cost, by_metric in found[context.key].items():
            if not any(f.standings for f in by_metric.values()):
                absent.append(COST_NAMES[cost])
                continue
            drawings.append(
                frontier_figure(by_metric, context.names, key=f"frontier-{cost.replace('_', '-')}-{context.key}", where=context.title)
            )
        texts = []
        if drawings:
            texts.append(READING_A_FRONTIER)
        if absent:
            reason = (
                "no cell has both this cost and a quality"
                if drawings
                else "no cell has both a cost and a quality (untrained cells have costs alone, floors qualities alone)"
            )
            texts.append(f"Not drawn: {', '.join(absent)}; {reason}.")
        volumes = ranking.hypervolume_table(context.configurations, found[context.key], key=f"hypervolume-{context.key}")
        groups.append(Group(title=context.title, texts=tuple(texts), drawings=tuple(drawings), tables=(volumes,) if volumes else ()))
    present = {family(one).key for context in contexts for one in context.configurations}
    glossary = Group(glossary=tuple(kind for key, kind in FAMILIES.items() if key in present))
    return _section("frontier", (glossary, *groups))


def _ranking_section(contexts: Sequence[Context], ranked: Sequence[Table]) -> Section:
    groups = [
        Group(
            title=context.title,
            tables=(table,),
            folded=tuple(
                folded
                for folded in (
                    ranking.quality_table(context.configurations, context.names, key=f"qualities-{context.key}"),
                    ranking.cost_table(context.configurations, context.names, key=f"costs-{context.key}"),
                )
                if folded
            ),
        )
        for context, table in zip(contexts, ranked, strict=True)
    ]
    return _section(
        "ranking",
        tuple(groups),
    )


def _tokens_section(contexts: Sequence[Context]) -> Section:
    groups = []
    for context in contexts:
        windows = sorted({(int(one["history"]), int(one["recent"])) for one in context.configurations if one["tokens"] > 0})
        drawings = []
        for number, (history, recent) in enumerate(windows, start=1):
            plain = [one for one in context.configurations if not one.changed]
            members = [one for one in plain if one.window == history + recent and one["recent"] == recent]
            members += [one for one in plain if one["compression"] == "recent" and one["recent"] == recent and one not in members]
            drawing = curves.tokens_figure(
                members,
                context.names,
                ceiling=context.ceiling,
                key=f"tokens-{context.key}-{number}",
                where=f"{context.title}, {history} + {recent} items",
            )
            if drawing:
                drawings.append(drawing)
        texts = () if drawings else ("No configuration that keeps tokens has a quality here.",)
        groups.append(Group(title=context.title, texts=texts, drawings=tuple(drawings)))
    return _section("tokens", tuple(groups))


def _history_section(contexts: Sequence[Context]) -> Section:
    groups = []
    for context in contexts:
        lengths = sorted({int(one["history"]) for one in context.configurations if not one.is_floor})
        plain = [one for one in context.configurations if not one.changed]
        quality = curves.history_figure(plain, context.names, ceiling=context.ceiling, key=f"history-{context.key}", where=context.title)
        cost = curves.cost_history_figure(plain, context.names, key=f"cost-history-{context.key}", where=context.title)
        drawings = tuple(drawing for drawing in (quality, cost) if drawing)
        texts = []
        if not drawings:
            texts.append(
                f"One history length alone was measured, {lengths[0]} items."
                if len(lengths) == 1
                else "No configuration was measured at two history lengths."
            )
        elif quality is None:
            texts.append("No configuration has a quality at two history lengths.")
        groups.append(Group(title=context.title, texts=tuple(texts), drawings=drawings))
    return _section(
        "history",
        tuple(groups),
    )


def _segments_section(contexts: Sequence[Context]) -> list[Section]:
    """Only where a number of tokens was spread over two numbers of segments."""
    groups = []
    for context in contexts:
        drawing = experiments.segments_figure(
            context.configurations, context.names, ceiling=context.ceiling, key=f"segments-{context.key}", where=context.title
        )
        if drawing:
            groups.append(Group(title=context.title, drawings=(drawing,)))
    return [_section("segments", tuple(groups))] if groups else []


def _experiment_sections(contexts: Sequence[Context]) -> list[Section]:
    """Ablations, aged caches and precisions: each section only where the run has such cells."""
    made: dict[str, list[Group]] = {"ablations": [], "staleness": [], "precision": []}
    tables = {
        "ablations": (experiments.ablations_table, "Served with something else in the tokens' place"),
        "staleness": (experiments.staleness_table, "Served from an older cache"),
        "precision": (experiments.precision_table, "Served from a cache as stored"),
    }
    for context in contexts:
        drawing = experiments.staleness_figure(
            context.everyone, context.names, ceiling=context.ceiling, key=f"staleness-{context.key}", where=context.title
        )
        for kind, (table_of, title) in tables.items():
            table = table_of(context.everyone, context.names, key=f"{kind}-differences-{context.key}", caption=f"{title}, {context.title}")
            if table:
                drawings = (drawing,) if kind == "staleness" and drawing else ()
                made[kind].append(Group(title=context.title, drawings=drawings, tables=(table,)))
    return [_section(kind, tuple(groups)) for kind, groups in made.items() if groups]


def _each_model_once(among: Sequence[Configuration]) -> Sequence[Configuration]:
    """Without those that serve another's model from something else, unless there are none but these."""
    return [one for one in among if not one.changed] or among


def _comparison_section(contexts: Sequence[Context]) -> Section:
    groups = []
    for context in contexts:
        members = contrasts.contrasted(context.configurations)
        if not members:
            groups.append(
                Group(title=context.title, texts=("No trained configuration has a quality here, so there is nothing to compare.",))
            )
            continue
        longest = [
            one for one in context.configurations if one.window == max(other.window for other in members) or one["compression"] == "recent"
        ]
        forest = contrasts.forest_figure(longest, context.names, key=f"contrasts-{context.key}", where=context.title)
        found = [
            contrasts.comparison_table(
                [compare(one, context.configurations, metric) for one in members],
                context.names,
                key=f"comparison-{metric.partition('@')[0]}-{context.key}",
                metric=metric,
            )
            for metric in QUALITY_METRICS
        ]
        equal = rivals_table(
            context.configurations,
            context.names,
            key=f"rivals-{context.key}",
            caption="PerSRec beside what keeps as many vectors, or recent items in their place, at equal tokens",
        )
        groups.append(
            Group(
                title=context.title,
                points=tuple(_does_history_pay(context.configurations, context.names)),
                drawings=(forest,) if forest else (),
                tables=(*found, *((equal,) if equal else ())),
            )
        )
    return _section("comparisons", tuple(groups))


def _does_history_pay(among: Sequence[Configuration], names: Names) -> list[str]:
    """Says plainly where full history beats the no-token layout and where it does not."""
    said = []
    for metric in QUALITY_METRICS:
        for found in contrasts.full_against_no_token(among, metric):
            worth = found.full_over_no_token
            gap = f"{METRIC_NAMES[metric]} {with_interval(worth, 'signed')}"
            full = found.references.full_quality
            whom = f"{names(full) if full else 'full history'} against {names(found.configuration)}"
            if worth.low is None:
                said.append(f"{whom}: {gap}, without an interval.")
            elif not worth.holds_zero and (worth.value or 0) > 0:
                continue
            elif worth.holds_zero:
                said.append(f"Full history does not beat the no-token layout: {whom}, {gap}.")
            else:
                said.append(f"Full history is worse than the no-token layout: {whom}, {gap}.")
    controls = [one for one in among if one.is_control]
    if not controls:
        return ["There is no no-token cell here, so what the tokens carry cannot be told from what the recent items carry."]
    return said or (
        ["Full history beats the no-token layout wherever both were measured."]
        if any(contrasts.full_against_no_token(among, QUALITY_METRICS[0]))
        else []
    )


def _shares_section(contexts: Sequence[Context]) -> list[Section]:
    """Only where cells have a control in their process."""
    groups = []
    for context in contexts:
        caption = f"Share of full attention's time and FLOPs, {context.title}"
        table = shares_table(context.configurations, context.names, key=f"shares-{context.key}", caption=caption)
        if table:
            groups.append(Group(title=context.title, tables=(table,)))
    return [_section("shares", tuple(groups))] if groups else []


def _amortisation_section(contexts: Sequence[Context]) -> Section:
    groups = []
    for context in contexts:
        plain = [one for one in context.configurations if not one.changed]
        drawing = contrasts.amortised_figure(plain, context.names, key=f"amortised-{context.key}", where=context.title)
        table = contrasts.break_even_table(
            context.configurations, context.names, key=f"break-even-{context.key}", caption=f"Break-even, {context.title}"
        )
        aged = contrasts.aged_table(
            context.everyone, context.names, key=f"aged-{context.key}", caption=f"Cost and quality as the history ages, {context.title}"
        )
        texts = () if drawing else ("FLOPs of compressing and serving were not both measured for any compressed history.",)
        shown = tuple(found for found in (table, aged) if found)
        groups.append(Group(title=context.title, texts=texts, drawings=(drawing,) if drawing else (), tables=shown))
    return _section("amortisation", tuple(groups))


def _feasibility_section(contexts: Sequence[Context], among: Sequence[Configuration]) -> Section:
    statuses = sorted({status for one in among for status in one.statuses}, key=list(evidence.STATUS_SIGNS).index)
    groups = [
        Group(
            title=c.title,
            tables=(evidence.feasibility_table(c.everyone, key=f"feasibility-{c.key}", caption=f"Feasibility, {c.title}"),),
        )
        for c in contexts
    ]
    signs = ", ".join(f"{evidence.STATUS_SIGNS[status][0]} {status}" for status in statuses)
    return _section("feasibility", (Group(texts=(f"{signs}.",)), *groups))


def _ledger_section(among: Sequence[Configuration], names: Names) -> Section:
    found = evidence.ledger_tables(among, names)
    texts = () if found else ("No ledger in these records: FLOPs were not counted.",)
    items = evidence.item_table(among)
    shown = (*found[:1], *([items] if items else []))
    return _section("ledger", (Group(texts=texts, tables=shown, folded=tuple(found[1:])),))


def _kernel_section(kernels: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    return (_section("kernels", (Group(tables=tuple(kernel_table(content) for content in kernels)),)),) if kernels else ()


def _noise_section(records: Sequence[Record], among: Sequence[Configuration], names: Names, proof: Mapping[str, Any] | None) -> Section:
    found = evidence.noise_tables(among, names)
    texts = [] if found else ["Neither repeated timings with a spread nor several seeds are in these records."]
    texts += filter(None, [upkeep.disturbance(records)])
    gates = Group(title="The gates, by themselves (A/A)", points=tuple(summary(proof))) if proof else Group(texts=(NO_A_A,))
    return _section("noise", (Group(texts=tuple(texts), tables=tuple(found)), gates))


def _failure_section(among: Sequence[Configuration], names: Names) -> Section:
    found = evidence.failures(among, names)
    missing = evidence.missing_table(among)
    group = Group(texts=() if found else ("Every cell ended well.",), failures=tuple(found), tables=(missing,) if missing else ())
    return _section("failures", (group,))


def _provenance_section(records: Sequence[Record], among: Sequence[Configuration], names: Names) -> Section:
    shown = [evidence.environment_table(records), evidence.dataset_table(records), upkeep.overhead_table(records)]
    folded = [evidence.training_table(_each_model_once(among), names), evidence.rerun_table(among, names)]
    group = Group(tables=tuple(table for table in shown if table), folded=tuple(table for table in folded if table))
    return _section("provenance", (group,))
