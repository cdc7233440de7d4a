"""Is there a frontier at all? What the long history is worth, and whether models rise above what learns nothing.

A frontier of tokens against full history says something only where full history beats no token, and where models beat the floors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import best_on_validation, contrasted, find_references, worth_nothing
from benchmarks.analysis.trained import Endings, endings, unequal


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Worth:
    """Full history against no token, for one backbone at its longest window: both the best on validation, both quoted on test."""

    backbone: str
    full: Configuration
    no_token: Configuration
    gap: Estimate
    unequal: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether the long history is worth nothing that can be measured here; False after unequal training, which decides nothing."""
        return worth_nothing(self.gap, self.full, self.no_token)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AboveModels:
    """A floor and the trained models below it on test.

    ``best`` is the model that validation would choose and ``gap`` what it has over the floor; ``gaps`` are those of the models below.
    """

    floor: Configuration
    below: tuple[Configuration, ...]
    gaps: tuple[Estimate, ...]
    models: int
    best: Configuration
    gap: Estimate

    @property
    def beats_all(self) -> bool:
        """Whether no model is left above it."""
        return len(self.below) == self.models

    @property
    def surely_beats_all(self) -> bool:
        """Whether every model lies below it and no interval of a difference holds 0; of one seed that is of users alone."""
        return self.beats_all and all(gap.high is not None and gap.high < 0 for gap in self.gaps)

    @property
    def is_verdict(self) -> bool:
        """Whether that holds over the seeds of every model, and every model had converged: a longer training may lift one that had not."""
        return self.beats_all and all(gap.sign < 0 for gap in self.gaps) and not self.endings.not_converged

    @property
    def endings(self) -> Endings:
        """How the trainings of the models below it ended."""
        return endings(self.below)


def worths(among: Sequence[Configuration], metric: str) -> list[Worth]:
    """For each backbone with both: full history against no token at the longest window."""
    by_backbone: dict[str, list[tuple[Configuration, Configuration]]] = {}
    for one in contrasted(among):
        references = find_references(one, among)
        full, no_token = references.full_quality, references.no_token
        if full is None or no_token is None or difference(full.quality(metric), no_token.quality(metric)).value is None:
            continue
        by_backbone.setdefault(one.cell.backbone, []).append((full, no_token))
    return [_worth(backbone, pairs, metric) for backbone, pairs in sorted(by_backbone.items())]


def _worth(backbone: str, pairs: Sequence[tuple[Configuration, Configuration]], metric: str) -> Worth:
    """Of the pairs at the longest window, the one whose full history, then whose control, is the best on validation."""
    longest = max(full.window for full, _ in pairs)
    of_longest = [(full, no_token) for full, no_token in pairs if full.window == longest]
    best = best_on_validation([full for full, _ in of_longest])
    control = best_on_validation([no_token for full, no_token in of_longest if full is best])
    if best is None or control is None:
        raise ValueError(f"backbone {backbone}: no pair of full history and no token")
    gap = difference(best.quality(metric), control.quality(metric))
    return Worth(backbone=backbone, full=best, no_token=control, gap=gap, unequal=unequal(best, control))


def floors_above(among: Sequence[Configuration], metric: str) -> list[AboveModels]:
    """Every floor that lies above a trained model of ours, the best floor first; none where all rise above all floors."""
    models = [one for one in among if one.trained and not one.is_peer and not one.changed and one.quality(metric).value is not None]
    best = best_on_validation(models)
    if best is None:
        return []
    above = []
    for floor in (one for one in among if one.is_floor):
        level = floor.quality(metric).value
        below = [] if level is None else [one for one in models if (one.quality(metric).value or 0.0) < level]
        if below:
            gaps = tuple(difference(one.quality(metric), floor.quality(metric)) for one in below)
            gap = difference(best.quality(metric), floor.quality(metric))
            above.append(AboveModels(floor=floor, below=tuple(below), gaps=gaps, models=len(models), best=best, gap=gap))
    return sorted(above, key=lambda one: (-(one.floor.quality(metric).value or 0.0), one.floor.key))
