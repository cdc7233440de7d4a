"""What the records say in words: the verdict, the findings, and the limits of what was measured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, Record
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.frontier import COSTS, frontier
from benchmarks.analysis.references import Comparison, compare
from benchmarks.report.figures.frontier import COST_NAMES
from benchmarks.report.names import Names, context_key, dataset_name, name_all
from benchmarks.report.tables.evidence import WIDE, still_rising, timing_spreads
from benchmarks.report.texts import ALWAYS_LIMITED
from benchmarks.text import listed

_METRIC = QUALITY_METRICS[0]
_STATUS_ORDER = ("ok", "oom", "unsupported", "timeout", "crash", "invalid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Banner:
    """The banner: one word on whether it holds, what was measured where, and the findings."""

    tone: str
    word: str
    summary: str
    counts: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    findings: tuple[str, ...]


def banner(records: Sequence[Record], among: Sequence[Configuration], names: Names) -> Banner:
    """The banner of a report."""
    statuses = Counter(str(record["status"]) for record in records)
    tone, word, summary = _standing(statuses)
    if tone == "good" and len({record.get("code_digest") for record in records}) > 1:
        tone, word = "warn", "Complete, of mixed code"
    return Banner(
        tone=tone,
        word=word,
        summary=summary,
        counts=tuple((status, statuses[status]) for status in _STATUS_ORDER if statuses[status]),
        facts=_facts(records, among),
        warnings=tuple(_warnings(records, among, names)),
        findings=tuple(findings(among)),
    )


def findings(among: Sequence[Configuration]) -> list[str]:
    """A sentence per dataset and backbone: what the tokens keep, at what cost, and against the control; the best quality first."""
    said = []
    contexts: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        if not one.changed:
            contexts.setdefault(context_key(one), []).append(one)
    for (data, *_), members in contexts.items():
        names = name_all(members)
        for backbone in sorted({str(one["backbone"]) for one in members if one.is_tokens}):
            own = [one for one in members if one["backbone"] == backbone]
            chosen = _spoken_for(own)
            if chosen is not None:
                found = compare(chosen, own, _METRIC)
                where = f"{data}: " if len(contexts) > 1 else ""
                said.append((found.quality.value or 0.0, where + _finding(found, names)))
    return [sentence for _, sentence in sorted(said, key=lambda pair: -pair[0])]


def _spoken_for(members: Sequence[Configuration]) -> Configuration | None:
    """The PerSRec configuration a finding is about: one with a control, on the frontier of serving FLOPs where there is one, the best."""
    tokens = [one for one in members if one.is_tokens and one.quality(_METRIC).value is not None]
    if not tokens:
        return None
    tokens = [one for one in tokens if compare(one, members, _METRIC).over_no_token.value is not None] or tokens
    winners = {s.configuration.key for s in frontier(members, cost="serve_flops", metric=_METRIC).winners}
    pool = [one for one in tokens if one.key in winners] or tokens
    return max(pool, key=lambda one: (one.quality(_METRIC).value or 0.0, one.key))


def _finding(found: Comparison, names: Names) -> str:
    parts = [f"{names(found.configuration)} reaches NDCG@10 {with_interval(found.quality)}"]
    if found.retention.value is not None:
        parts.append(f"{with_interval(found.retention, 'percent')} of full history's")
    said = ", ".join(parts) + _costs_in_words(found)
    if found.over_no_token.value is not None:
        unsure = ", an interval that holds 0, so that the tokens help is not established" if found.over_no_token.holds_zero else ""
        said += f" Against the same layout without tokens: {with_interval(found.over_no_token, 'signed')}{unsure}."
    else:
        said += f" Against the same layout without tokens: unknown, {found.over_no_token.reason}."
    if found.over_recent.value is not None and found.over_recent.value < 0 and not found.over_recent.holds_zero:
        said += f" A model trained on the recent items alone does better: {with_interval(found.over_recent, 'signed')}."
    if found.recovered.value is not None:
        said += f" Of the long history's value the tokens recover {with_interval(found.recovered, 'percent')}."
    elif found.full_over_no_token.value is not None and (found.full_over_no_token.holds_zero or found.full_over_no_token.value < 0):
        gap = with_interval(found.full_over_no_token, "signed")
        said += f" Full history does not beat the no-token layout here, {gap}, so there is no share to recover."
    return said


def _costs_in_words(found: Comparison) -> str:
    """What the configuration costs beside full history, recomputed and from its KV cache."""
    one, full, cached = found.configuration, found.references.full, found.references.full_cached
    shares = []
    for cost, phrase in (("serve_flops", "of its FLOPs per request"), ("compress_serve_flops", "with the refresh in")):
        ours, theirs = COSTS[cost](one).value, COSTS[cost](full).value if full else None
        if ours is not None and theirs:
            shares.append(f"{text.percent(ours / theirs)} {phrase}")
    said = (f", at {' and '.join(shares)}" if shares else "") + "."
    kept, rival = one.cost("cache_bytes").value, cached.cost("cache_bytes").value if cached else None
    if kept is not None and rival is not None:
        said += f" It keeps {text.nbytes(kept)} of a user; full history's KV cache keeps {text.nbytes(rival)}."
    return said


def _standing(statuses: Counter[str]) -> tuple[str, str, str]:
    lost = sum(statuses[status] for status in ("timeout", "crash", "invalid"))
    total = sum(statuses.values())
    if not statuses["ok"]:
        return "bad", "Nothing measured", f"none of {total} cells ended well"
    if lost:
        return "bad", "Incomplete", f"{lost} of {total} cells crashed, ran out of time or are invalid"
    findings_only = statuses["oom"] + statuses["unsupported"]
    if findings_only:
        return "warn", "Complete, with limits found", f"{findings_only} of {total} cells ran out of memory or are not supported"
    return "good", "Complete", "the one cell was measured" if total == 1 else f"all {total} cells were measured"


def _facts(records: Sequence[Record], among: Sequence[Configuration]) -> tuple[tuple[str, str], ...]:
    commits = sorted(
        {
            str(r["provenance"].get("commit") or "unknown")[:12] + (" with uncommitted changes" if r["provenance"].get("dirty") else "")
            for r in records
        }
    )
    hardware = sorted({_hardware(record) for record in records})
    dates = sorted({str(record["provenance"].get("utc") or "")[:10] for record in records} - {""})
    data = sorted({dataset_name(one) for one in among})
    seeds = sorted({int(record["cell"].get("seed", 0)) for record in records})
    users = sorted({int(entry["n"]) for record in records if (entry := record["metrics"].get(_METRIC)) and entry.get("n")})
    facts = [("Commit" if len(commits) == 1 else "Commits", listed(commits)), ("Hardware", "; ".join(hardware))]
    if dates:
        facts.append(("Measured (UTC)", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"))
    facts.append(("Data", listed(data) + (f", {listed([f'{n:,}' for n in users])} test users" if users else "")))
    facts.append(("Configurations", f"{len(among):,}, seed{'s' if len(seeds) > 1 else ''} {listed([str(seed) for seed in seeds])}"))
    return tuple(facts)


def _hardware(record: Record) -> str:
    facts = record["environment"]
    threads = facts.get("threads") or "?"
    cpu = f"{facts.get('cpu') or 'unknown processor'}, {threads} thread{'s' if threads != 1 else ''}"
    return f"{facts['gpu']} with {cpu}" if facts.get("gpu") and record["cell"].get("device") == "cuda" else cpu


def _warnings(records: Sequence[Record], among: Sequence[Configuration], names: Names) -> list[str]:
    said = []
    newest = max(records, key=lambda record: (str(record["provenance"].get("utc") or ""), record["cell_key"]))
    stale = sum(record.get("code_digest") != newest.get("code_digest") for record in records)
    if stale:
        code = str(newest.get("code_digest"))[:12]
        said.append(f"Mixed code: {stale} of {len(records)} cells were measured by other code than the newest one ({code}). Run again.")
    machines = len({record["environment"].get("fingerprint") for record in records})
    if machines > 1:
        said.append(
            f"{machines} environments: timings of different machines stand side by side; FLOPs, bytes and quality travel, times do not."
        )
    digests: dict[str, set[str]] = {}
    for one in among:
        digests.setdefault(dataset_name(one), set()).add(one.dataset_digest)
    versions = {data: len(found - {"unknown"}) for data, found in sorted(digests.items())}
    said += [f"{data} was measured in {count} versions of the data; they are kept apart." for data, count in versions.items() if count > 1]
    disagreeing = [names(one) for one in among if one.disagreements()]
    if disagreeing:
        said.append(f"The FLOP ledger disagrees by over 1% for {_some(disagreeing)}: no place on a frontier.")
    return said


def limits(records: Sequence[Record], among: Sequence[Configuration], names: Names) -> list[str]:
    """What a reader must not conclude from these records."""
    measured = [record for record in records if record["status"] == "ok"]
    trained = [one for one in among if one["training"] != "none" and one.quality(_METRIC).value is not None]
    said = []
    single = [one for one in trained if len(one.quality(_METRIC).seeds) == 1]
    if single:
        share = "every configuration" if len(single) == len(trained) else f"{len(single)} of {len(trained)} configurations"
        said.append(f"One seed for {share}: their intervals hold the users' variation, not that of training anew.")
    if not trained:
        said.append("No trained model was measured: this is cost alone, and floors.")
    unpaired = sorted({quality.reason for one in trained if (quality := one.quality(_METRIC)).low is None})
    if unpaired:
        said.append(f"Some qualities have no interval: {'; '.join(unpaired)}.")
    rising = [names(one) for one in among if any(still_rising(record) for record in one.measured)]
    if rising:
        share = f"{len(rising)} of {len(trained)} configurations"
        said.append(f"{share} were at their best in the last epoch they were given; longer training may change their order.")
    said += _noisy(among)
    missing = [COST_NAMES[cost] for cost in COSTS if measured and all(COSTS[cost](one).value is None for one in among)]
    if missing:
        said.append(f"Not measured in any cell: {listed(missing)}.")
    data = sorted({dataset_name(one) for one in among})
    if data == [name for name in data if name.startswith("synthetic")]:
        said.append("The data are synthetic: a process with a known ceiling. What holds here need not hold on logs of people.")
    elif len(data) == 1:
        said.append(f"One dataset, {data[0]}: what holds here need not hold elsewhere.")
    devices = sorted({str(one["device"]) for one in among})
    if devices == ["cpu"]:
        said.append("Measured on a CPU alone: ratios of FLOPs and bytes travel to accelerators, ratios of times need not.")
    counted = [names(one) for one in among if one["counted_only"]]
    if counted:
        said.append(f"Counted on shapes alone and never run, so that nothing of it is timed: {_some(counted)}.")
    return [*said, *ALWAYS_LIMITED]


def _noisy(among: Sequence[Configuration]) -> list[str]:
    """The timings that spread widely in most configurations."""
    said = []
    for metric, spreads in timing_spreads(among).items():
        wide = sum(spread > WIDE for spread in spreads.values())
        if 2 * wide > len(spreads):
            said.append(f"Noisy: {metric.replace('_', ' ')} spreads by over {WIDE:.0%} in {wide} of {len(spreads)} configurations.")
    return said


def _some(names: Sequence[str], *, most: int = 5) -> str:
    """The names, or the first of many."""
    return listed(names) if len(names) <= most else listed([*names[:most], f"{len(names) - most} more"])
