"""Peers: configurations whose numbers may stand in one figure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.analysis.configurations import Configuration
from benchmarks.report.names import Names, name_all, peers_key, titles_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """Configurations of the same data, device and number format, with the timings of one environment.

    ``everyone`` holds ablations and aged caches too, which answer a question on a model and are nothing one would serve.
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
        """Those served from their own fresh cache as computed."""
        return [one for one in self.configurations if not one.changed]


def peers_of(among: Sequence[Configuration]) -> list[Peers]:
    """Parts configurations by data, device and number format, in that order, and shows them once for each environment that timed them."""
    parts: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        parts.setdefault(peers_key(one), []).append(one)
    titles = titles_of(parts)
    groups = []
    faceted = [(key, *facet) for key, members in parts.items() for facet in _by_environment(members)]
    for number, (key, timed, members) in enumerate(faceted, start=1):
        groups.append(
            Peers(
                key=str(number),
                title=titles[key] + timed,
                configurations=tuple(one for one in members if not one.is_experiment),
                everyone=tuple(members),
                names=name_all(members),
                ceiling=_ceiling(members),
            )
        )
    return groups


def _by_environment(members: Sequence[Configuration]) -> Iterator[tuple[str, Sequence[Configuration]]]:
    """All configurations with the timings of one environment, for each that there is: quality, FLOPs and bytes stand in every one."""
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
    """What all of them share: what the recent items alone tell is another number where windows have others."""
    facts = (record.dataset for one in among for record in one.records)
    found = [data.ceiling for data in facts if data is not None and data.ceiling]
    first = found[0] if found else {}
    return {
        name: by_metric for name, by_metric in first.items() if all(_rounded(other.get(name)) == _rounded(by_metric) for other in found)
    }


def _rounded(by_metric: Mapping[str, float] | None) -> dict[str, float]:
    """To what is left of a number whatever order it was summed in."""
    return {metric: round(value, 6) for metric, value in (by_metric or {}).items()}
