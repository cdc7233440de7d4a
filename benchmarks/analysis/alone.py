"""One setting at a time: models of one run that differ from a plain one in a single setting of their recipe.

The search for a recipe, and the test of an idea, leave such models behind. No record says which of them is plain: it is the model that
most others differ from in one setting. Where few were tried, as of a control that few ideas touch, it is the model whose recipe is plain
elsewhere. A choice among them is made on validation; the differences here are on test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.configurations import Configuration
from benchmarks.cell import Cell

# how a model is trained and built; the other settings (what it keeps, its data, its serving) are the same in all that are compared
RECIPE = (
    "learning_rate", "item_learning_rate", "expert_learning_rate", "warmup_steps", "decays", "weight_decay", "temperature", "negatives",
    "dropout", "recent_weight", "recent_weight_steps", "moving_windows", "copying_start", "expert_weight", "distillation", "expert_start",
    "random_cuts", "segments", "plan", "layers", "width", "heads", "divisor", "key_value_heads", "feed_forward", "targets_per_step",
    "batch_size", "epochs", "patience", "autocast", "time_bias", "request_time",
)  # fmt: skip
_FOLLOWERS = ("item_learning_rate", "expert_learning_rate")
_CUTS, _SEGMENTS = "random_cuts", "segments"
_FEWEST = 2  # models one setting away that a plain one needs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alone:
    """A model beside the plain one from which it differs in ``setting`` alone.

    Attributes:
        plain: the model that most others stand one setting away from.
        changed: the other one.
        setting: of `RECIPE`; random cuts beside a model of one segment, which has nowhere to cut, bring their segments with them.
    """

    plain: Configuration
    changed: Configuration
    setting: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The setting, and what it brings with it."""
        with_segments = self.setting == _CUTS and self.plain.cell.segments != self.changed.cell.segments
        return (_SEGMENTS, _CUTS) if with_segments else (self.setting,)


def alone(among: Sequence[Configuration]) -> list[list[Alone]]:
    """For each plain model the models one setting away, in the order of the settings; without experiments on served models."""
    groups: dict[tuple[Any, ...], list[Configuration]] = {}
    for one in among:
        if one.trained and not one.changed and not one.is_peer and one.measured:
            groups.setdefault(_group_key(one), []).append(one)
    around = [(members, max((_around(one, members) for one in members), key=len)) for members in groups.values()]
    plain = {_recipe(pairs[0].plain) for _, pairs in around if len(pairs) >= _FEWEST}
    every = [pairs if len(pairs) >= _FEWEST else _around_one_of(plain, members) for members, pairs in around]
    return [pairs for pairs in every if pairs]


def _group_key(one: Configuration) -> tuple[Any, ...]:
    values = {name: value for name, value in one.cell.to_dict().items() if name not in RECIPE and name != "seed"}
    return one.dataset_digest, *sorted((name, str(value)) for name, value in values.items())


def _around_one_of(recipes: set[tuple[Any, ...]], members: Sequence[Configuration]) -> list[Alone]:
    return [pair for one in members if _recipe(one) in recipes for pair in _around(one, members)]


def _around(plain: Configuration, members: Sequence[Configuration]) -> list[Alone]:
    pairs = [Alone(plain=plain, changed=other, setting=name) for other in members if (name := _one_setting(plain, other))]
    return sorted(pairs, key=lambda pair: RECIPE.index(pair.setting))


def _recipe(one: Configuration) -> tuple[Any, ...]:
    return tuple(_value(one.cell, name) for name in RECIPE)


def _one_setting(one: Configuration, other: Configuration) -> str:
    """The setting in which two differ, or nothing where they differ in none or in several."""
    followers = [name for name in _FOLLOWERS if getattr(one.cell, name) is getattr(other.cell, name) is None]  # they follow the rate
    differing = [name for name in RECIPE if name not in followers and _value(one.cell, name) != _value(other.cell, name)]
    if differing == [_CUTS, _SEGMENTS] and 1 in (one.cell.segments, other.cell.segments):
        return _CUTS
    return differing[0] if len(differing) == 1 else ""


def _value(cell: Cell, name: str) -> Any:
    """A setting's effective value: a missing rate is the model's own, and missing targets are those of the batch."""
    value = getattr(cell, name)
    if value is None and name.endswith("learning_rate"):
        return cell.learning_rate
    return cell.step_targets if name == "targets_per_step" else value
