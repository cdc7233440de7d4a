"""The answer in sentences that a reader can repeat: what to serve, or that there is no choice to make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import text
from benchmarks.analysis.amortise import flops_price
from benchmarks.analysis.choices import Choice, Held, Role, RunAnswer, Standstill, answer, keeps_part
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import LEAST_SEEDS, with_interval
from benchmarks.analysis.fleet import in_batches, refresh_time
from benchmarks.analysis.frontier import Frontiers
from benchmarks.analysis.references import compare
from benchmarks.analysis.trained import unequal
from benchmarks.analysis.worth import AboveModels
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.figures.answer import answer_figure
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Names, backbone_name, family
from benchmarks.report.opening import as_there_are, no_verdict_in_words
from benchmarks.report.peers import Peers
from benchmarks.report.rivals import how_sure, rivals_in_words
from benchmarks.report.texts import backbone_alone, request_beside_alike, shares_of_time
from benchmarks.text import listed, sentence

_METRIC = QUALITY_METRICS[0]
_METRIC_NAME = METRIC_NAMES[_METRIC]
_REQUEST_COSTS = (
    ("compute of a request", "serve_flops"),
    ("time of a whole request, median", "request_latency_p50_ms"),
    ("the same, 95th percentile", "request_latency_p95_ms"),
    ("the backbone alone, timed by itself, median", "serve_latency_p50_ms"),
)
_STANDSTILLS: Mapping[Standstill, str] = {
    Standstill.NOTHING_MEASURED: "Nothing was measured, so there is no answer.",
    Standstill.COSTS_ALONE: "This run measured costs alone: it says what a request costs, and not how well it ranks.",
    Standstill.NOTHING_TRAINED: "No trained model of ours was measured, so there is nothing to choose from.",
    Standstill.NOTHING_COMPRESSED: "No compressed history was measured, so there is nothing to choose from.",
    Standstill.NO_FULL: "Full attention was not measured, so no share of its quality can be quoted, and nothing is chosen.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One choice: what it is the best for, a sentence to repeat, how sure that is, and its numbers."""

    heading: str
    family: str
    said: str
    sure: str
    facts: tuple[tuple[str, str], ...]
    rerun: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerPart:
    """The answer of one group of peers.

    ``roles`` maps the key of a configuration to what it was chosen for. ``rivals`` says whether PerSRec is better than the other ways of
    keeping as many vectors.
    """

    title: str
    lead: str
    cards: tuple[Card, ...]
    rivals: tuple[str, ...]
    drawing: Drawing | None
    roles: Mapping[str, str]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer as lines of text."""
        return (self.lead, *(f"{card.heading}: {card.said} {card.sure}".strip() for card in self.cards), *self.rivals)


def answer_of(peers: Peers, frontiers: Frontiers, *, picture: bool = False) -> AnswerPart:
    """The answer of a group of peers. ``frontiers`` are by cost and metric."""
    run_answer = answer(peers.configurations)
    names = peers.names
    roles = {choice.beside.configuration.key: listed([role.value for role in choice.roles]) for choice in run_answer.choices}
    cards = [_card(choice, names, _chance(choice, frontiers)) for choice in run_answer.choices]
    cards += [_cost_card(beside, names) for beside in run_answer.costs]
    key = f"answer-{peers.key}"
    return AnswerPart(
        title=peers.title,
        lead=_lead(run_answer, peers),
        cards=tuple(cards),
        rivals=rivals_in_words(peers.configurations, names),
        drawing=answer_figure(run_answer, frontiers["serve_flops"][_METRIC], names, roles=roles, key=key, where=peers.title, png=picture),
        roles=roles,
    )


def _lead(run_answer: RunAnswer, peers: Peers) -> str:
    names = peers.names
    if run_answer.standstill is Standstill.WORTH_NOTHING:
        worth = run_answer.worths[0]
        pair = f"{_value(worth.full)} with it and {_value(worth.no_token)} without"
        others = (
            f", and {listed([backbone_name(one.full) for one in run_answer.worths[1:]])} nothing either"
            if len(run_answer.worths) > 1
            else ""
        )
        few = no_verdict_in_words(run_answer.worths)
        lead = "No model is chosen" if few else "There is no frontier on this data"
        end = few or "So keep nothing of it and serve the recent items alone."
        statement = (
            f"reading the long history gains {backbone_name(worth.full)} nothing that can be measured ({_METRIC_NAME} {pair}){others}."
        )
        gains = _gains_in_words(peers)
        return " ".join([f"{lead}: {statement}", *([end] if few or not gains else []), *([gains] if gains else [])])
    if run_answer.standstill is Standstill.FLOOR_ABOVE and run_answer.above is not None:
        return _no_model_above(run_answer.above, names)
    if run_answer.standstill is not None:
        return _STANDSTILLS[run_answer.standstill]
    if run_answer.full is None:
        return ""
    basis = (
        "The choices were made on validation; their numbers are from test."
        if run_answer.by_validation
        else "The choices were made on test and their numbers are from test, too, which flatters the best of many."
    )
    quality = with_interval(run_answer.full.quality(_METRIC))
    if all(choice.roles == (Role.BEST,) for choice in run_answer.choices):
        basis += " Costs were not measured beside full attention's, so nothing is chosen for what it costs."
    return f"{basis} They are compared with {names(run_answer.full)}, the best full attention: {_METRIC_NAME} {quality}."


def _no_model_above(above: AboveModels, names: Names) -> str:
    """Says that a floor, which learns nothing, scores above every trained model of ours. It is a verdict only over seeds."""
    pair = f"{_METRIC_NAME} {_value(above.floor)} against {_value(above.best)} of the best on validation"
    ends = above.endings
    note = f"; {ends.not_converged} of {ends.models} models had not converged" if ends.not_converged else ""
    if above.is_verdict:
        statement = f"{names(above.floor)}, which learns nothing, ranks better than every trained model of ours ({pair}{note})"
        return f"There is no frontier on this data: {statement}. So no model here is worth its cost."
    counts = [len(gap.by_seed) for gap in above.gaps]
    few = as_there_are(min(counts)) + " for some models" * (min(counts) < max(counts))
    return (
        f"No model is chosen: {names(above.floor)}, which learns nothing, scores above every trained model of ours ({pair}{note}). "
        f"It is no verdict, {few if min(counts) < LEAST_SEEDS else 'as longer training may lift them'}."
    )


def _gains_in_words(peers: Peers) -> str:
    """How many configurations that keep part of the history rank above no token, though full attention does not.

    Where there are many, some do so by chance.
    """
    contrasts = [
        compare(one, peers.configurations, _METRIC)
        for one in peers.configurations
        if keeps_part(one) and not one.changed and not one.is_peer and one.quality(_METRIC).value is not None
    ]
    above = [one for one in contrasts if one.over_no_token.low is not None and one.over_no_token.low > 0]
    surest = max(above, key=lambda one: (one.over_no_token.low, one.configuration.key), default=None)
    if surest is None or surest.references.no_token is None:
        return ""
    gain, training = surest.over_no_token, unequal(surest.configuration, surest.references.no_token)
    models = {record.model.key for contrast in above for record in contrast.configuration.measured if record.model is not None}
    trainings = text.amount(len(models), "training")
    several = f"{len(above)} of {len(contrasts)} configurations that keep part of it score above no token; they come from {trainings}"
    one = f"one of {len(contrasts)} configurations that keep part of it scores above no token"
    best = f"{peers.names(surest.configuration)}: {with_interval(gain, 'signed')}, {how_sure(gain, training)}."
    return f"Yet {one}: {best}" if len(above) == 1 else f"Yet {several}. The surest of them, chosen on test, is {best}"


def _card(choice: Choice, names: Names, chance: str) -> Card:
    beside = choice.beside
    one = beside.configuration
    quality_sentence = (
        f"{names(one)} keeps {with_interval(beside.kept, 'percent')} of the best full attention's quality."
        if beside.kept.value is not None
        else f"{names(one)} reaches {_METRIC_NAME} {with_interval(one.quality(_METRIC))}; a share kept is {beside.kept.reason}."
    )
    return Card(
        heading=sentence(listed([role.value for role in choice.roles])),
        family=family(one).key,
        said=" ".join([quality_sentence, *_costs_in_words(beside)]),
        sure=_how_sure(choice, chance),
        facts=_facts(one, quality=True),
        rerun=_rerun(one),
    )


def _costs_in_words(beside: Held) -> list[str]:
    """Costs beside those of full attention served the same way: of a request, of what is stored per user, and of training."""
    one, alike = beside.configuration, beside.alike
    shares = [f"{text.percent(beside.compute)} of the compute"] if beside.compute is not None else []
    shares += shares_of_time(beside.time, beside.backbone_time)
    sentences = request_beside_alike(shares, one.cell.serving)
    sentences += backbone_alone(beside.time, beside.backbone_time)
    own_bytes, full_bytes = one.cost("cache_bytes").value, None if alike is None else alike.cost("cache_bytes").value
    if own_bytes is not None and full_bytes:
        sentences.append(f"The cache takes {text.nbytes(own_bytes)} per user instead of {text.nbytes(full_bytes)}.")
    # an elastic model was trained for all its counts and lengths, not for this one
    own_flops, full_flops = (
        None if other is None or other.cell.training == "elastic" else other.cost("train_flops").value for other in (one, alike)
    )
    if own_flops and full_flops:
        sentences.append(f"In training, a sequence takes {text.percent(own_flops / full_flops)} of full attention's compute.")
    return sentences


def _chance(choice: Choice, frontiers: Frontiers) -> str:
    """How often it is on the frontier of compute when users are drawn anew; empty for a choice by bytes alone."""
    standings = frontiers["serve_flops"][_METRIC].standings if choice.roles != (Role.SMALLEST,) else ()
    chance = next((standing.probability for standing in standings if standing.configuration is choice.beside.configuration), None)
    return "" if chance is None else f"It is on the frontier of compute in {text.percent(chance)} of the draws of users."


def _how_sure(choice: Choice, chance: str) -> str:
    beside = choice.beside
    seeds = len(beside.kept.by_seed)
    if choice.unequal:
        sentences = [f"Not sure: training was not equal ({'; '.join(choice.unequal)}), so this is no verdict."]
    elif beside.kept.low is None:
        sentences = [f"Not sure: there is no interval ({beside.kept.reason})."] if beside.kept.value is not None else []
    elif beside.kept.of_one_seed:
        sentences = ["One seed: the interval covers its users alone. Another training may give a value outside it."]
    else:
        sentences = [f"{seeds} seeds: the 95% interval covers users and trainings."]
    sentences += [chance] if chance else []
    if beside.time.value is None and beside.compute is not None:
        sentences.append(f"Time is not compared: {beside.time.reason}.")
    return " ".join(sentences)


def _cost_card(beside: Held, names: Names) -> Card:
    one = beside.configuration
    shares = [f"{text.percent(beside.compute_anew)} of the compute"] if beside.compute_anew is not None else []
    time = one.cost("serve_time_over_full")
    shares += [f"{with_interval(time, 'percent')} of the backbone's time"] if time.value is not None else []
    sentences = [f"{names(one)}, a window of {one.window:,} items.", *_costs_in_words(beside)]
    sentences += [f"Against full attention that recomputes the window at each request, it takes {listed(shares)}."] if shares else []
    sure = ["It was not trained: its costs are known, its quality is not."]
    if all(share.value is None for share in (time, beside.time, beside.backbone_time)):
        sure.append("Time was not compared.")
    else:
        sure.append("Compute is counted. A share of time has an interval over processes; with one process there is none.")
    return Card(
        heading=backbone_name(one), family=family(one).key, said=" ".join(sentences), sure=" ".join(sure),
        facts=_facts(one, quality=False), rerun=_rerun(one),
    )  # fmt: skip


def _facts(one: Configuration, *, quality: bool) -> tuple[tuple[str, str], ...]:
    """The numbers of a choice: the costs of a request, what is stored per user, and the costs of a refresh."""
    facts = [(_METRIC_NAME, with_interval(one.quality(_METRIC)))] if quality else []
    facts += [(name, tabular.said_cost(metric, cost)) for name, metric in _REQUEST_COSTS if (cost := one.cost(metric)).value is not None]
    if (cache_bytes := one.cost("cache_bytes").value) is not None:
        facts.append(("stored per user", text.nbytes(cache_bytes)))
    price = flops_price(one)
    if price is not None and price.compress:
        facts.append(("compute of a refresh", text.flops(price.compress)))
    refresh = refresh_time(one).value
    if refresh:
        facts.append((f"time of a refresh, {in_batches(one)}", text.milliseconds(refresh)))
    return tuple(facts)


def _rerun(one: Configuration) -> str:
    return next((record.provenance.rerun for record in one.records if record.provenance.rerun), "") or ""


def _value(one: Configuration) -> str:
    value = one.quality(_METRIC).value
    return text.MISSING if value is None else text.ratio(value)


def short_answers(parts: Sequence[AnswerPart]) -> list[str]:
    """The answers of all groups of peers, as lines of text."""
    several = len(parts) > 1
    return [f"{part.title}: {line}" if several else line for part in parts for line in part.sentences]
