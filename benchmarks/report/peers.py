"""Peers: configurations whose numbers may stand in one figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import Configuration
from benchmarks.report.names import Names, name_all, peers_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """Configurations of the same data, device and number format.

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
    """Parts configurations by data, device and number format, in that order."""
    parts: dict[tuple[str, ...], list[Configuration]] = {}
    for one in among:
        parts.setdefault(peers_key(one), []).append(one)
    names = [key[0] for key in parts]
    groups = []
    for number, ((data, digest, device, dtype), members) in enumerate(parts.items(), start=1):
        version = f", data {digest[:8]}" if len({key[1] for key in parts if key[0] == data}) > 1 else ""
        title = f"{data}{version}, {device.upper() if device == 'cpu' else device}" + (f", {dtype}" if names.count(data) > 1 else "")
        groups.append(
            Peers(
                key=str(number),
                title=title,
                configurations=tuple(one for one in members if not one.is_experiment),
                everyone=tuple(members),
                names=name_all(members),
                ceiling=_ceiling(members),
            )
        )
    return groups


def _ceiling(among: Iterable[Configuration]) -> Mapping[str, Mapping[str, float]]:
    facts = (record.dataset for one in among for record in one.records)
    return next((data.ceiling for data in facts if data is not None and data.ceiling), {})
