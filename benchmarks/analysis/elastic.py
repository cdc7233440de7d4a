"""Elastic models against separate ones: what it costs in quality that one model serves every token count and history length."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.cell import ELASTIC_FIELDS, Cell

_ELSEWHERE = ("training", *ELASTIC_FIELDS)
_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell) if setting.name not in _ELSEWHERE)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ElasticPair:
    """A point that an elastic model serves, beside the model that was trained for this point alone."""

    elastic: Configuration
    separate: Configuration

    def difference(self, metric: str) -> Estimate:
        """Elastic minus separate, paired over users."""
        return difference(self.elastic.quality(metric), self.separate.quality(metric))


def elastic_pairs(among: Sequence[Configuration]) -> list[ElasticPair]:
    """Every point of an elastic model that a separate model has too: the same data, and all settings but how the model was trained.

    A separate model for 0 tokens has no tokens to teach, so it is the pair of a taught elastic model's point too. The order is that of the
    elastic ones in ``among``.
    """
    separate = {_point(one): one for one in among if one.cell.training == "separate"}
    elastic = [one for one in among if one.cell.training == "elastic"]
    return [ElasticPair(elastic=one, separate=separate[_point(one)]) for one in elastic if _point(one) in separate]


def _point(one: Configuration) -> tuple[object, ...]:
    cell = one.cell if one.cell.tokens else dataclasses.replace(one.cell, distillation=0.0)
    return one.dataset_digest, *(getattr(cell, name) for name in _SETTINGS)
