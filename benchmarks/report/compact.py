"""The one compact table behind the page: each configuration's settings, numbers and commands, as columns that scripts draw rows from.

Everything that a script shows comes from it: the ranked table, the figure with its filters, and the details of a clicked point. A section
with inputs, such as one that chooses by a budget, needs nothing else. Numbers have six digits; an unknown one is null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from benchmarks.analysis.advice import full_history, latency_measure, servable
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate
from benchmarks.analysis.frontier import COSTS, Frontiers, Standing
from benchmarks.analysis.references import compare, figure_on_validation
from benchmarks.analysis.trained import models_of
from benchmarks.labels import METRIC_NAMES
from benchmarks.measures import MEASURES
from benchmarks.records import Status
from benchmarks.report.names import COST_NAMES, Family, backbone_name, family, name_all
from benchmarks.report.peers import Peers
from benchmarks.report.texts import RESUME_ALWAYS

_SETTINGS = ("tokens", "history", "recent", "segments", "plan", "serving", "cache_dtype", "training", "batch_size")
_DIGITS = 6
_PERCENTILE = 95  # of the latency that a budget bounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A group of peers as the page shows it: its configurations in the order of the ranked table, its frontiers, what was chosen."""

    peers: Peers
    ranked: Sequence[Configuration]
    frontiers: Frontiers
    roles: Mapping[str, str]


def compact(groups: Sequence[Shown], kinds: Sequence[Family], *, cells: str) -> dict[str, Any]:
    """The table, for `embedded`.

    Args:
        groups: the groups of peers, as the page shows them.
        kinds: the families, in their order.
        cells: the relative path from the page to the folder of the records, ending in a slash; empty where the page shows none.
    """
    return {
        "groups": [group.peers.title for group in groups],
        "families": [{"key": kind.key, "name": kind.name, "glyph": kind.glyph, "marker": kind.marker} for kind in kinds],
        "costs": dict(COST_NAMES),
        "measures": {
            name: {"unit": measure.unit, "group": measure.group, "says": measure.description} for name, measure in MEASURES.items()
        },
        "cells": cells,
        "resume": RESUME_ALWAYS,
        "budget": [_budget(group.peers.configurations) for group in groups],
        "columns": _columns(groups, {kind.key: place for place, kind in enumerate(kinds)}),
    }


def _budget(among: Sequence[Configuration]) -> dict[str, Any]:
    """What a budget is compared with in a group: the measure of latency, and whose quality is 100%, or why nobody's is."""
    reference, why = full_history(among, QUALITY_METRICS[0])
    level = None if reference is None or why else reference.quality(QUALITY_METRICS[0]).value
    name = "" if reference is None else name_all(among)(reference)
    return {"latency": latency_measure(servable(among), _PERCENTILE), "reference": _number(level), "name": name, "why": why}


def embedded(value: Any) -> Markup:
    """JSON that no parser of HTML takes for a tag, as every ``<`` is an escape."""
    json_text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(json_text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 - escaped in this very line


def _columns(groups: Sequence[Shown], places: Mapping[str, int]) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    for number, group in enumerate(groups):
        at = {one.key: len(rows) + place for place, one in enumerate(group.ranked)}
        standings = {
            cost: {standing.configuration.key: standing for standing in by_metric[QUALITY_METRICS[0]].standings}
            for cost, by_metric in group.frontiers.items()
        }
        servable_keys = {one.key for one in servable(group.ranked)}
        rows += [
            _row(one, number, group, places) | _standings(one, standings, at) | {"servable": one.key in servable_keys or None}
            for one in group.ranked
        ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _row(one: Configuration, number: int, group: Shown, places: Mapping[str, int]) -> dict[str, Any]:
    records = one.measured or one.records  # the records behind its means
    models = models_of(one)
    ends = [model.converged for model in models]
    row: dict[str, Any] = {
        "label": group.peers.names(one), "short": group.peers.names.brief(one), "group": number, "family": places[family(one).key],
        "backbone": backbone_name(one), "floor": one.is_floor or None, "role": group.roles.get(one.key),
        **{name: getattr(one.cell, name) for name in _SETTINGS},
        "ended": ", ".join(f"{count} {status}" for status, count in sorted(one.statuses.items())),
        "failed": None if set(one.statuses) == {Status.OK} else True,
        "converged": None if not ends else False if False in ends else None if None in ends else True,
        "seeds": [record.cell.seed for record in records],
        "validation": _number(figure_on_validation(one, group.peers.configurations)),
        "rerun": next((record.provenance.rerun for record in one.records if record.provenance.rerun), None),
        "records": [record.cell_key for record in records],
    }  # fmt: skip
    for metric in QUALITY_METRICS:
        row |= _with_bounds(metric, one.quality(metric))
    row |= _comparisons(one, group.peers.configurations)
    return row | _other_measures(one)


def _other_measures(one: Configuration) -> dict[str, Any]:
    """Every other measure, but no MACs: they are half the FLOPs."""
    values: dict[str, Any] = {"compress_serve_flops": _number(COSTS["compress_serve_flops"](one).value)}
    for name, measure in MEASURES.items():
        if name in METRIC_NAMES or name.endswith("_macs"):
            continue
        estimate = one.quality(name) if measure.group == "quality" else one.cost(name)
        values |= {name: _number(estimate.value)} if measure.deterministic or measure.group == "quality" else _with_bounds(name, estimate)
    return values


def _comparisons(one: Configuration, among: Sequence[Configuration]) -> dict[str, Any]:
    """The share it keeps of full attention's quality at its own window, or why there is none, and its gain over no token."""
    if one.is_floor or one.quality(QUALITY_METRICS[0]).value is None:
        return {}
    contrast = compare(one, among, QUALITY_METRICS[0])
    reason = contrast.retention.reason if contrast.retention.value is None else None
    unequal = "; ".join(contrast.all_unequal) or None
    return (
        _with_bounds("retention", contrast.retention)
        | _with_bounds("over_no_token", contrast.over_no_token)
        | _with_bounds("recovered", contrast.recovered)
        | {"no_retention": reason, "unequal": unequal}
    )


def _standings(one: Configuration, standings: Mapping[str, Mapping[str, Standing]], at: Mapping[str, int]) -> dict[str, Any]:
    """For each frontier: whether it is on it, how sure that is, and which row beats it at 95%; or that it takes no part."""
    row: dict[str, Any] = {}
    for cost, by_key in standings.items():
        standing = by_key.get(one.key)
        if standing is None:
            row[f"out:{cost}"] = True
            continue
        rival = standing.dominated_by
        row |= {f"on:{cost}": standing.on_frontier or None, f"chance:{cost}": _number(standing.probability)}
        row |= {} if rival is None else {f"beaten:{cost}": at[rival.key]}
    return row


def _with_bounds(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: _number(estimate.value), f"{name}:low": _number(estimate.low), f"{name}:high": _number(estimate.high)}


def _number(value: float | None) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
