"""What the records say in words: the verdict and the findings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import text
from benchmarks.analysis.advice import servable
from benchmarks.analysis.amortise import break_even, flops_price
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.frontier import COSTS
from benchmarks.analysis.origins import OlderCode, Source, older_code, timings
from benchmarks.analysis.references import (
    Contrast,
    backbone_time_share,
    best_on_validation,
    compare,
    request_time_share,
    worth_nothing,
)
from benchmarks.analysis.trained import Endings, endings, steps_in_words, unequal
from benchmarks.measures import LEDGER_TOLERANCE
from benchmarks.records import FINDINGS, Record, Status
from benchmarks.report.names import Names, dataset_name, name_all, peers_key, short_titles_of
from benchmarks.report.opening import opening
from benchmarks.report.texts import backbone_alone, request_beside_alike, shares_of_time
from benchmarks.text import listed, some

_METRIC = QUALITY_METRICS[0]
_STATUS_ORDER = (Status.OK, Status.OOM, Status.UNSUPPORTED, Status.TIMEOUT, Status.CRASH, Status.INVALID)
_HALVES = {"quality": "qualities", "cost": "costs"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Banner:
    """The banner: what comes first, one word on whether it holds, what was measured where, and the findings.

    ``first`` are short sentences; ``more`` are their details, shown on demand.
    """

    first: tuple[str, ...]
    more: tuple[str, ...]
    tone: str
    word: str
    summary: str
    counts: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    findings: tuple[str, ...]


def banner(records: Sequence[Record], every: Sequence[Source], among: Sequence[Configuration], names: Names) -> Banner:
    """The banner of a report; ``every`` are the measurements behind its records."""
    statuses = Counter(record.status for record in records)
    tone, word, summary = _standing(statuses)
    older = older_code(every)
    if tone == "good" and older:
        tone, word = "warn", "Measured by mixed code"
    if tone != "bad":
        tone, word = _with_convergence(endings(among), tone, word)
    cautions = opening(among, names)
    return Banner(
        first=tuple(caution.short for caution in cautions),
        more=tuple(caution.detail for caution in cautions if caution.detail),
        tone=tone,
        word=word,
        summary=summary,
        counts=tuple((status.value, statuses[status]) for status in _STATUS_ORDER if statuses[status]),
        facts=_facts(records, every, among),
        warnings=(*(_mixed_code_warning(code, among, names) for code in older), *_warnings(every, among, names)),
        findings=tuple(findings(among)),
    )


def findings(among: Sequence[Configuration]) -> list[str]:
    """A sentence per dataset and backbone: what the tokens keep, at what cost, and against the control; the best quality first."""
    sentences = []
    groups: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        if not one.changed:
            groups.setdefault(peers_key(one), []).append(one)
    titles = short_titles_of(groups)
    for key, members in groups.items():
        names = name_all(members)
        for backbone in sorted({one.cell.backbone for one in members if one.is_tokens}):
            own = [one for one in members if one.cell.backbone == backbone]
            subject = _subject_of(own)
            if subject is not None:
                contrast = compare(subject, own, _METRIC)
                where = f"{titles[key]}: " if len(groups) > 1 else ""
                sentences.append((contrast.quality.value or 0.0, where + _finding(contrast, names)))
    return [sentence for _, sentence in sorted(sentences, key=lambda pair: -pair[0])]


def _subject_of(members: Sequence[Configuration]) -> Configuration | None:
    """The PerSRec configuration that a finding is about: the best on validation of those with a control.

    Where validation does not tell them apart, it is the one with the longest window and the most tokens: settings decide, not results.
    """
    tokens = [one for one in members if one.is_tokens and one.quality(_METRIC).value is not None]
    with_control = [one for one in tokens if compare(one, members, _METRIC).over_no_token.value is not None]
    return best_on_validation(sorted(with_control or tokens, key=lambda one: (-one.window, -one.cell.tokens, one.key)))


def _finding(contrast: Contrast, names: Names) -> str:
    tokens = contrast.configuration.cell.tokens
    token_count = text.amount(tokens, "token")
    reasons = contrast.all_unequal
    sentences = [f"Training is not equal ({'; '.join(reasons)}), so this is no verdict."] if reasons else []
    quoted = (contrast.retention, contrast.over_no_token, contrast.recovered)
    seed = (
        " (one seed)"
        if contrast.quality.of_one_seed
        else " (compared over one seed)"
        if any(one.of_one_seed for one in quoted if one.value is not None)
        else ""
    )
    sentences.append(f"{names(contrast.configuration)}{seed}: {_quality_and_cost(contrast, token_count)}")
    if contrast.retention.value is not None:
        sentences.append(f"NDCG@10 is {with_interval(contrast.quality)}.")
    sentences += [*_sizes(contrast), *_against_counts(contrast), _against_no_token(contrast, names), *_against_recent(contrast)]
    worth = contrast.full_over_no_token
    if contrast.recovered.value is not None:
        sentences.append(f"The tokens recover {with_interval(contrast.recovered, 'percent')} of the long history's value.")
    elif worth_nothing(worth, contrast.references.full_quality, contrast.references.no_token):
        gap = with_interval(worth, "signed")
        sentences.append(f"Full history does not beat no token here: the difference is {gap}. So there is no share to keep or to recover.")
    elif worth.value is not None and worth.half_width is not None:
        near = f", too near to the smallest detectable difference, {text.ratio(worth.half_width)}" if worth.value > 0 else ""
        sentences.append(f"No share recovered is given: full history minus no token is {with_interval(worth, 'signed')}{near}.")
    return " ".join(sentences)


def _steps_note(one: Configuration, other: Configuration | None) -> str:
    """`` (1,000 against 2,000 steps)`` where two models took different steps to their plateaus, else nothing."""
    steps = "" if other is None else steps_in_words(one, other)
    return f" ({steps})" if steps else ""


def _against_recent(contrast: Contrast) -> list[str]:
    gap, reference = contrast.over_recent, contrast.references.recent
    if gap.value is None or gap.value >= 0 or gap.holds_zero or reference is contrast.references.no_token:
        return []
    reasons = () if reference is None else unequal(contrast.configuration, reference)
    scores = "does better" if gap.sign < 0 and not reasons else "scores higher"
    note = f" (training is not equal: {'; '.join(reasons)})" if reasons else _steps_note(contrast.configuration, reference)
    return [f"A model trained on the recent items alone{note} {scores}: {with_interval(gap, 'signed')}."]


def _quality_and_cost(contrast: Contrast, token_count: str) -> str:
    """The quality that is kept, then a request's share of full attention: served the same way, and last recomputing the window."""
    one, references, single = contrast.configuration, contrast.references, contrast.configuration.cell.tokens == 1
    if contrast.retention.value is None:
        quality = f"{token_count} {'reaches' if single else 'reach'} NDCG@10 {with_interval(contrast.quality)}."
    else:
        share = with_interval(contrast.retention, "percent")
        steps = _steps_note(one, contrast.references.full_quality)
        quality = f"{token_count} {'keeps' if single else 'keep'} {share} of full history's quality on the same backbone{steps}."
    sentences = [quality, *_beside_alike(one, references.full_alike)]
    if one.cell.serving != "recompute" and (anew := _share("serve_flops", one, references.full)):
        refresh_share = _share("compress_serve_flops", one, references.full)
        with_refresh = f"; counting one refresh per request, {refresh_share}" if refresh_share else ""
        beside_anew = "Against full attention that recomputes the window at each request"
        sentences.append(f"{beside_anew}, a request costs {anew} of the compute{with_refresh}.")
    return " ".join(sentences)


def _beside_alike(one: Configuration, other: Configuration | None) -> list[str]:
    """A request's shares of full attention served the same way: of compute, of time with its interval, and with refreshes counted."""
    if other is None:
        return []
    compute, whole, backbone = _share("serve_flops", one, other), request_time_share(one, other), backbone_time_share(one, other)
    shares = [*([f"{compute} of the compute"] if compute else []), *shares_of_time(whole, backbone)]
    if not shares:
        return []
    return [*request_beside_alike(shares, one.cell.serving), *backbone_alone(whole, backbone), *_with_refreshes(one, other)]


def _with_refreshes(one: Configuration, other: Configuration) -> list[str]:
    """The share of compute with a refresh for each request, and for how many requests per refresh it costs no more."""
    share, ours, theirs = _share("compress_serve_flops", one, other), flops_price(one), flops_price(other)
    if one.cell.serving == "recompute" or not share or ours is None or theirs is None:
        return []
    even = break_even(ours, theirs)
    if even.first is None:
        from_when = "it costs more, however many requests share a refresh"
    elif even.last is not None:
        from_when = f"it costs no more up to {text.amount(even.last, 'request')} per refresh"
    elif ours.compress <= theirs.compress:
        from_when = "it costs no more, however few requests share a refresh"
    else:
        from_when = f"it costs no more from {text.amount(even.first, 'request')} per refresh on"
    return [f"Counting one refresh per request on both sides, a request costs {share} of full attention's compute; {from_when}."]


def _share(cost: str, one: Configuration, other: Configuration | None) -> str:
    """A cost as a share of another configuration's; empty where either is unknown."""
    ours, theirs = COSTS[cost](one).value, COSTS[cost](other).value if other is not None else None
    return text.percent(ours / theirs) if ours is not None and theirs else ""


def _sizes(contrast: Contrast) -> list[str]:
    """What is kept of a user, beside what full attention keeps. Empty for a model that recomputes: it keeps no cache."""
    one, cached = contrast.configuration, contrast.references.full_cached
    own_bytes, full_bytes = one.cost("cache_bytes").value, cached.cost("cache_bytes").value if cached else None
    if own_bytes is None or full_bytes is None:
        return []
    return [f"The cache takes {text.nbytes(own_bytes)} per user; full history's KV cache takes {text.nbytes(full_bytes)}."]


def _against_counts(contrast: Contrast) -> list[str]:
    """Where the output counts items: what tokens add to counts of the same items, as no token counts the recent items alone."""
    gain, counts = contrast.over_counts_only, contrast.references.counts_only
    if gain.value is None or counts is None:
        return []
    comparison = f"Difference from counts of the same items and no token{_steps_note(contrast.configuration, counts)}"
    return [f"{comparison}: {with_interval(gain, 'signed')}.", *_weak(contrast, counts, "The model with these counts")]


def _weak(contrast: Contrast, reference: Configuration | None, subject: str) -> list[str]:
    """That a reference is a point of an elastic model, where no model of its own was trained."""
    is_weak = reference is not None and reference in contrast.references.weak
    return [f"{subject} is a point of an elastic model: no model was trained for it alone."] if is_weak else []


def _against_no_token(contrast: Contrast, names: Names) -> str:
    gain, control = contrast.over_no_token, contrast.references.no_token
    one = contrast.configuration
    comparison = "Difference from the same layout without tokens"
    if one.cell.counts == "all":
        comparison += ", which counts the recent items alone"
    if control is not None and not (control.is_control and control.cell.history == one.cell.history):
        comparison = f"Difference from {names(control)}, the best on validation without tokens"
    value = f"unknown, {gain.reason}" if gain.value is None else with_interval(gain, "signed")
    sentences = [f"{comparison}{_steps_note(one, control)}: {value}."]
    unsure = "so it is not established that the tokens help."
    if gain.value is not None and gain.low is None:
        sentences.append(f"There is no interval ({gain.reason}), {unsure}")
    elif gain.value is not None and gain.holds_zero:
        sentences.append(f"The interval includes 0, {unsure}")
    return " ".join([*sentences, *_weak(contrast, control, "The model without tokens")])


def _standing(statuses: Counter[Status]) -> tuple[str, str, str]:
    """Tone, word and what the word means. No word says that a grid is complete, as cells that nobody began have no record."""
    total = sum(statuses.values())
    lost_count = sum(count for status, count in statuses.items() if status not in FINDINGS)
    if not statuses[Status.OK]:
        return "bad", "Nothing measured", f"none of {total} cells ended well"
    if lost_count:
        return "bad", "Incomplete", f"{lost_count} of {total} cells crashed, ran out of time or are invalid"
    limited_count = statuses[Status.OOM] + statuses[Status.UNSUPPORTED]
    if limited_count:
        return "warn", "Measured, with limits found", f"{limited_count} of {total} cells ran out of memory or are not supported"
    return "good", "Measured", "the one cell on record ended well" if total == 1 else f"all {total} cells on record ended well"


def _with_convergence(ends: Endings, tone: str, word: str) -> tuple[str, str]:
    """The tone and word, or a warning where models had not converged: what rests on those is no result yet."""
    if ends.not_converged:
        return "warn", "Not converged"
    if ends.not_recorded and tone == "good":
        return "warn", "Measured, convergence not recorded"
    return tone, word


def _facts(records: Sequence[Record], every: Sequence[Source], among: Sequence[Configuration]) -> tuple[tuple[str, str], ...]:
    origins = [source.origin for source in every]
    commits = sorted(
        {(o.provenance.commit or "unknown")[:12] + (" with uncommitted changes" if o.provenance.dirty else "") for o in origins}
    )
    hardware = sorted({_hardware(source) for source in timings(every) or every})
    dates = sorted({origin.provenance.utc[:10] for origin in origins} - {""})
    data = sorted({dataset_name(one) for one in among})
    seeds = sorted({record.cell.seed for record in records})
    users = sorted({entry.n for record in records if (entry := record.metrics.get(_METRIC)) is not None and entry.n})
    facts = [("Commit" if len(commits) == 1 else "Commits", listed(commits)), ("Hardware", "; ".join(hardware))]
    if dates:
        facts.append(("Measured (UTC)", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"))
    splits = listed(sorted({record.cell.split for record in records if record.cell.has_quality}))
    of_users = f", {listed([f'{n:,}' for n in users])} test users" if users else ""
    facts.append(("Data", listed(data) + (f", {splits}{of_users}" if splits else of_users)))
    facts.append(("Configurations", _configuration_counts(among)))
    facts.append(
        ("Cells", f"{len(records):,}, a configuration and a seed each; seed{'s' * (len(seeds) > 1)} {listed(list(map(str, seeds)))}")
    )
    return tuple(facts)


def _configuration_counts(among: Sequence[Configuration]) -> str:
    """How many configurations there are, by kind: other counts on the page cover only some of these."""
    servable_count = len(servable(among))
    other_count = sum(one.is_experiment or one.is_floor or one.is_peer for one in among)
    kinds = {
        "servable": servable_count,
        "failed, or of a FLOP ledger that disagrees": len(among) - servable_count - other_count,
        "ablations and aged caches": sum(one.is_experiment for one in among),
        "floors": sum(one.is_floor for one in among),
        "peers": sum(one.is_peer for one in among),
    }
    parts = [f"{kind} {count:,}" for kind, count in kinds.items() if count]
    return f"{len(among):,}: {', '.join(parts)}" if len(parts) > 1 else f"{len(among):,}"


def _hardware(source: Source) -> str:
    """The machine of a measurement. Timings belong to the machine of the costs."""
    facts = source.origin.environment
    threads = facts.threads or "?"
    cpu = f"{facts.cpu or 'unknown processor'}, {threads} thread{'s' if threads != 1 else ''}"
    return f"{facts.gpu} with {cpu}" if facts.gpu and source.cells[0].cell.device == "cuda" else cpu


def _mixed_code_warning(code: OlderCode, among: Sequence[Configuration], names: Names) -> str:
    keys = {record.cell_key for record in code.cells}
    cells = [names(one) for one in among if any(record.cell_key in keys for record in one.records)]
    half = _HALVES[code.half]
    kinds = listed([kind.replace("_", " ") for kind in code.kinds])
    count = f"{code.stale} of {code.total} {half}"
    versions = f"{listed(code.older)}; newest {code.newest}"
    were = "was" if code.stale == 1 else "were"
    return f"Mixed code: {count} {were} measured by older code for {kinds} ({versions}): {some(cells, most=3)}. Run again."


def _warnings(every: Sequence[Source], among: Sequence[Configuration], names: Names) -> list[str]:
    warnings = []
    machines = len({source.origin.environment.fingerprint for source in timings(every)})
    if machines > 1:
        warnings.append(
            f"{machines} environments: timings are compared only within one environment. So each figure and table of timings is here once "
            "per environment. Quality, FLOPs and bytes are those of all."
        )
    digests: dict[str, set[str]] = {}
    for one in among:
        digests.setdefault(dataset_name(one), set()).add(one.dataset_digest)
    versions = {data: len(values - {"unknown"}) for data, values in sorted(digests.items())}
    warnings += [
        f"{data} was measured in {count} versions of the data; they are kept apart." for data, count in versions.items() if count > 1
    ]
    disagreeing_names = [names(one) for one in among if one.disagreements()]
    if disagreeing_names:
        warnings.append(f"The FLOP ledger disagrees by over {LEDGER_TOLERANCE:.0%} for {some(disagreeing_names)}: no place on a frontier.")
    return warnings
