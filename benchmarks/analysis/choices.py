"""Which configuration to serve: the balanced, the smallest and the best, chosen on validation and quoted on test.

Every choice is compared with full attention, the best on validation of a group of peers. The candidates are the trained models that keep
something of the history in less than full attention does. Where the long history is worth nothing, or where what learns nothing ranks
better, there is no choice to make, and the answer says so. Fewer than three seeds rule no backbone out beside another one.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, retention
from benchmarks.analysis.references import (
    backbone_time_share,
    best_on_validation,
    figure_on_validation,
    find_references,
    request_time_share,
)
from benchmarks.analysis.trained import not_converged, unequal
from benchmarks.analysis.worth import AboveModels, Worth, floors_above, worths
from benchmarks.cell import Cell

_METRIC = QUALITY_METRICS[0]
_COMPUTE, _BYTES = "serve_flops", "cache_bytes"
_BUT_SERVING = tuple(setting.name for setting in dataclasses.fields(Cell) if setting.name != "serving")


class Role(StrEnum):
    """What a choice is the best for."""

    BALANCED = "balanced"
    SMALLEST = "smallest"
    BEST = "best"


LEAST = 0.01  # of full attention's cost: a smaller share counts as this one, since saving still more is worth no quality
KEEPS: Mapping[Role, float] = MappingProxyType({Role.BALANCED: 0.95, Role.SMALLEST: 0.90})  # the least share of the quality on validation


class Standstill(StrEnum):
    """Why there is no choice to make."""

    NOTHING_MEASURED = "nothing measured"
    COSTS_ALONE = "costs alone"
    NOTHING_TRAINED = "nothing trained"
    NOTHING_COMPRESSED = "nothing compressed"
    NO_FULL = "no full attention"
    WORTH_NOTHING = "the long history is worth nothing"
    FLOOR_ABOVE = "what learns nothing ranks better"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Held:
    """A configuration beside full attention: ``alike`` is the one served the same way, ``anew`` recomputes the window at each request.

    ``kept`` is the share of the quality of full attention. A share of cost is None where either side was not measured; ``time``, that of a
    whole request, and ``backbone_time`` have a value only where both sides were timed in several processes.
    """

    configuration: Configuration
    alike: Configuration | None
    anew: Configuration | None
    kept: Estimate
    time: Estimate
    backbone_time: Estimate

    @property
    def compute(self) -> float | None:
        """FLOPs of a request over those of full attention served the same way."""
        return _share(_COMPUTE, self.configuration, self.alike)

    @property
    def compute_anew(self) -> float | None:
        """FLOPs of a request over those of recomputing the window with full attention."""
        return _share(_COMPUTE, self.configuration, self.anew)

    @property
    def size(self) -> float | None:
        """Bytes kept of a user over those of full attention served the same way; where both recompute, both keep the items alone."""
        if self.configuration.cell.serving == "recompute":
            return None if self.alike is None else 1.0
        return _share(_BYTES, self.configuration, self.alike)

    @property
    def is_dearer(self) -> bool:
        """Whether it takes more compute or more bytes than full attention served the same way."""
        return any(share is not None and share > 1 for share in (self.compute, self.size))

    @property
    def shares(self) -> tuple[float | None, float | None, float | None]:
        """Compute, time and bytes, each over full attention's."""
        return self.compute, self.time.value, self.size


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Choice:
    """What is served for one role, or for several that the same configuration fills.

    ``unequal`` says why its quality and full attention's do not rest on equal training.
    """

    roles: tuple[Role, ...]
    beside: Held
    unequal: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunAnswer:
    """The choices, or the reason why there are none; ``full`` is what they are compared with.

    ``by_validation`` is whether the choices were made on validation; older records have no such figures, so there they are made on test.
    ``worths`` and ``above`` are the evidence behind a standstill; ``costs`` are the answer of a run of costs alone.
    """

    choices: tuple[Choice, ...] = ()
    full: Configuration | None = None
    by_validation: bool = True
    standstill: Standstill | None = None
    worths: tuple[Worth, ...] = ()
    above: AboveModels | None = None
    costs: tuple[Held, ...] = ()


def answer(among: Sequence[Configuration]) -> RunAnswer:
    """The answer of a group of peers: configurations of the same data, device and number format, experiments left out."""
    measured_configurations = [one for one in among if one.measured]
    if not measured_configurations:
        return RunAnswer(standstill=Standstill.NOTHING_MEASURED)
    trained = [one for one in measured_configurations if one.trained and not one.is_peer and one.quality(_METRIC).value is not None]
    if not trained:
        costs = cost_answer(measured_configurations)
        others = any(one.is_floor or one.is_peer for one in measured_configurations)  # these have a quality, and are no choice
        return RunAnswer(standstill=Standstill.NOTHING_TRAINED if others and not costs else Standstill.COSTS_ALONE, costs=costs)
    above = next((floor for floor in floors_above(among, _METRIC) if floor.surely_beats_all), None)
    if above is not None:
        return RunAnswer(standstill=Standstill.FLOOR_ABOVE, above=above)
    return _where_history_pays(trained, among)


def _where_history_pays(trained: Sequence[Configuration], among: Sequence[Configuration]) -> RunAnswer:
    """The choice among backbones to which the long history is worth something, or why there is none."""
    all_worths = worths(among, _METRIC)
    useless = {worth.backbone for worth in all_worths if worth.nothing}
    if useless.issuperset(one.cell.backbone for one in trained):  # one that lacks full history or no token is not judged
        return RunAnswer(standstill=Standstill.WORTH_NOTHING, worths=tuple(all_worths))
    result = _choose([one for one in trained if one.cell.backbone not in useless], among)
    if useless and result.standstill is not None and all(worth.nothing for worth in all_worths):
        return RunAnswer(standstill=Standstill.WORTH_NOTHING, worths=tuple(all_worths))  # those not judged offer no choice
    surely_useless = {worth.backbone for worth in all_worths if worth.nothing and not worth.gap.of_few_seeds}
    if surely_useless == useless:
        return result
    return _choose([one for one in trained if one.cell.backbone not in surely_useless], among)


def cost_answer(among: Sequence[Configuration]) -> tuple[Held, ...]:
    """The costs of a request, for each backbone at the longest window where full attention was measured too and the most tokens there."""
    by_backbone: dict[str, list[Held]] = {}
    for one in among:
        references = find_references(one, among) if one.is_tokens else None
        if references is not None and (references.full_alike is not None or references.full is not None):
            beside = _beside(one, references.full_alike, references.full, Estimate(value=None, reason="no quality was measured"))
            if any(share is not None for share in (beside.compute, beside.compute_anew)):
                by_backbone.setdefault(one.cell.backbone, []).append(beside)
    return tuple(max(costs, key=_longest_with_most_tokens) for _, costs in sorted(by_backbone.items()))


def _longest_with_most_tokens(beside: Held) -> tuple[int, int, int, str]:
    one = beside.configuration
    return one.window, one.cell.tokens, -one.cell.segments, one.key


def _choose(trained: Sequence[Configuration], among: Sequence[Configuration]) -> RunAnswer:
    compressed = [one for one in trained if _is_candidate(one)]
    if not compressed:
        return RunAnswer(standstill=Standstill.NOTHING_COMPRESSED)
    compressed = [one for one in compressed if not not_converged(one)] or compressed
    figures = {one.key: figure_on_validation(one, among) for one in trained}
    whole = [one for one in trained if one.cell.compression == "full" and not one.changed]
    full = best_on_validation([one for one in whole if not not_converged(one)] or whole)
    by_validation = None not in [figures[one.key] for one in (*compressed, *([full] if full is not None else []))]
    if not by_validation:
        figures = {one.key: one.quality(_METRIC).value for one in trained}
    if full is None:
        return RunAnswer(standstill=Standstill.NO_FULL, by_validation=by_validation)
    full_by_serving = {other.cell.serving: other for other in among if _but_serving(other) == _but_serving(full)}
    candidates = [_beside_full(one, full, full_by_serving) for one in compressed]
    level = {key: figure or 0.0 for key, figure in figures.items()}
    choices: dict[str, Choice] = {}
    for role in _roles(candidates):
        beside = _for_role(role, candidates, level, full)
        one, roles = beside.configuration, choices[beside.configuration.key].roles if beside.configuration.key in choices else ()
        choices[one.key] = Choice(roles=(*roles, role), beside=beside, unequal=unequal(one, full))
    return RunAnswer(choices=tuple(choices.values()), full=full, by_validation=by_validation)


def keeps_part(one: Configuration) -> bool:
    """Whether something of the history is kept, and not all of it: by tokens, without them where the compression says so, or as counts."""
    part, cell = one.parts.compression, one.cell
    if cell.compression in ("full", "none") or (part is not None and not part.needs_history):
        return False
    return cell.tokens > 0 or cell.counts == "all" or (part is not None and part.keeps_without_tokens)


def _is_candidate(one: Configuration) -> bool:
    return keeps_part(one) and not one.disagreements() and not one.is_experiment


def _beside_full(one: Configuration, full: Configuration, full_by_serving: Mapping[str, Configuration]) -> Held:
    quality_share = retention(one.quality(_METRIC), full.quality(_METRIC), of="full attention's")
    return _beside(one, full_by_serving.get(one.cell.serving), full_by_serving.get("recompute"), quality_share)


def _but_serving(one: Configuration) -> tuple[object, ...]:
    return one.dataset_digest, *(getattr(one.cell, name) for name in _BUT_SERVING)


def _beside(one: Configuration, alike: Configuration | None, anew: Configuration | None, quality_share: Estimate) -> Held:
    time, backbone_time = request_time_share(one, alike), backbone_time_share(one, alike)
    return Held(configuration=one, alike=alike, anew=anew, kept=quality_share, time=time, backbone_time=backbone_time)


def _for_role(role: Role, candidates: Sequence[Held], level: Mapping[str, float], full: Configuration) -> Held:
    """Balanced has the least product of its shares of cost, smallest the fewest bytes, best the highest quality on validation.

    What takes more compute or bytes than full attention served the same way is balanced only where every candidate that keeps enough
    quality does.
    """
    burdens = dict(zip((beside.configuration.key for beside in candidates), _burdens(candidates), strict=True))

    def lightest(beside: Held) -> tuple[float, ...]:
        return burdens[beside.configuration.key], -level[beside.configuration.key]

    def fewest_bytes(beside: Held) -> tuple[float, ...]:
        return _bytes_of(beside.configuration), *lightest(beside)

    def highest(beside: Held) -> tuple[float, ...]:
        return -level[beside.configuration.key], burdens[beside.configuration.key]

    order = {Role.BALANCED: lightest, Role.SMALLEST: fewest_bytes, Role.BEST: highest}[role]
    best = max(level[beside.configuration.key] for beside in candidates)
    least = KEEPS.get(role, 0.0) * min(best, level[full.key])
    fit = [beside for beside in candidates if level[beside.configuration.key] >= least]
    if role is Role.BALANCED:
        fit = [beside for beside in fit if not beside.is_dearer] or fit
    return min(fit, key=lambda beside: (order(beside), beside.configuration.key))


def _roles(candidates: Sequence[Held]) -> list[Role]:
    """What something can be chosen for: for its costs only where costs were measured."""
    has_bytes = any(_bytes_of(one.configuration) < math.inf for one in candidates)
    has_costs = has_bytes or any(share is not None for one in candidates for share in (one.compute, one.time.value))
    known = {Role.BALANCED: has_costs and bool(_cost_columns(candidates)), Role.SMALLEST: has_bytes}
    return [role for role in Role if known.get(role, True)]


def _burdens(candidates: Sequence[Held]) -> list[float]:
    """For each, the geometric mean of the shares of cost that are known of all; 1 where none is. Less than `LEAST` counts as `LEAST`."""
    columns = _cost_columns(candidates)
    shares = ([max(LEAST, share or 0.0) for share in column] for column in columns)
    return [math.prod(own) ** (1 / len(columns)) for own in zip(*shares, strict=True)] if columns else [1.0] * len(candidates)


def _cost_columns(candidates: Sequence[Held]) -> list[tuple[float | None, ...]]:
    """The shares of compute, of time and of bytes that are known of all candidates, a column each."""
    return [column for column in zip(*(beside.shares for beside in candidates), strict=True) if None not in column]


def _bytes_of(one: Configuration) -> float:
    """Bytes kept of a user; what is recomputed keeps the items themselves, and stands last."""
    size = one.cost(_BYTES).value
    return math.inf if size is None else size


def _share(cost: str, one: Configuration, other: Configuration | None) -> float | None:
    ours, theirs = one.cost(cost).value, None if other is None else other.cost(cost).value
    return ours / theirs if ours is not None and theirs else None
