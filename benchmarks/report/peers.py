"""Peers: configurations whose numbers may stand in one figure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.analysis.configurations import Configuration
from benchmarks.report.names import Names, name_all, peers_key, titles_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """Configurations of the same data, device and number format, with the timings of one environment.

    ``everyone`` also holds ablations and aged caches, which answer a question about a model and are not for serving.
    ``ceiling`` is what an exact predictor reaches, by its view of the past and by metric.
    """

    key: str
    title: str
    configurations: tuple[Configuration, ...]
    everyone: tuple[Configuration, ...]
    names: Names
    ceiling: Mapping[str, Mapping[str, float]]

    @property
    def unchanged(self) -> list[Configuration]:
        """The configurations that are served from their own fresh cache as computed."""
        return [one for one in self.configurations if not one.changed]


def peers_of(among: Sequence[Configuration]) -> list[Peers]:
    """Groups configurations by data, device and number format, in that order, with a group for each environment that timed them."""
    parts: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        parts.setdefault(peers_key(one), []).append(one)
    titles = titles_of(parts)
    groups = []
    facets = [(key, *facet) for key, members in parts.items() for facet in _by_environment(members)]
    for number, (key, suffix, members) in enumerate(facets, start=1):
        groups.append(
            Peers(
                key=str(number),
                title=titles[key] + suffix,
                configurations=tuple(one for one in members if not one.is_experiment),
                everyone=tuple(members),
                names=name_all(members),
                ceiling=_ceiling(members),
            )
        )
    return groups


def _by_environment(members: Sequence[Configuration]) -> Iterator[tuple[str, Sequence[Configuration]]]:
    """For each environment all configurations with its timings alone; quality, FLOPs and bytes are the same in each."""
    machines = sorted({machine for one in members for machine in one.machines})
    if len(machines) < 2:
        yield "", members
        return
    for machine in machines:
        facts = next(
            record.cost.environment
            for one in members
            for record in one.measured
            if record.cost is not None and (record.cost.environment.fingerprint or "") == machine
        )
        processor = facts.gpu if facts.gpu and members[0].cell.device == "cuda" else facts.cpu
        yield f", timed on {processor or 'an unknown processor'} ({machine[:8]})", [replace(one, machine=machine) for one in members]


def _ceiling(among: Iterable[Configuration]) -> Mapping[str, Mapping[str, float]]:
    """The ceilings that are the same for all configurations; that of the recent items alone differs where their windows differ."""
    facts = (record.dataset for one in among for record in one.records)
    ceilings = [data.ceiling for data in facts if data is not None and data.ceiling]
    first = ceilings[0] if ceilings else {}
    return {
        name: by_metric for name, by_metric in first.items() if all(_rounded(other.get(name)) == _rounded(by_metric) for other in ceilings)
    }


def _rounded(by_metric: Mapping[str, float] | None) -> dict[str, float]:
    """Rounds away the digits that depend on the order of a sum."""
    return {metric: round(value, 6) for metric, value in (by_metric or {}).items()}
