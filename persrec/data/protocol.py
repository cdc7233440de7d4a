"""How a dataset is evaluated, whatever it is read from. Imports no engine."""

import dataclasses
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a dataset is evaluated.

    Attributes:
        seen_items: whether a user's known items are left out of the ranking (``"excluded"``) or stay (``"kept"``).
        minimum_history: fewest events before a target; a target with fewer is not evaluated.
        groups: users are also reported in groups by the events before the target: below the first number, from it to the next, and so on.
        most_users: the largest number of users who are evaluated; if there are more, this many are drawn, once for all.
        validation_from: the first day that the temporal split does not train on; None leaves it to the split.
        test_from: the first day of the temporal split's test; None leaves it to the split.
    """

    seen_items: Literal["excluded", "kept"] = "kept"
    minimum_history: int = 1
    groups: tuple[int, ...] = (20, 50, 100, 200, 500)
    most_users: int = 100_000
    validation_from: datetime.date | None = None
    test_from: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.seen_items not in ("excluded", "kept"):
            raise ValueError(f"protocol.seen_items: {self.seen_items!r}; expected excluded or kept")
        for name in ("minimum_history", "most_users"):
            if getattr(self, name) < 1:
                raise ValueError(f"protocol.{name}: {getattr(self, name)}; expected at least 1")
        if list(self.groups) != sorted(set(self.groups)) or min(self.groups, default=1) < 1:
            raise ValueError(f"protocol.groups: {list(self.groups)}; expected whole numbers from 1 on, ascending")
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("protocol: one of validation_from and test_from alone; expected both days or neither")
        if self.validation_from is not None and self.test_from is not None and self.validation_from >= self.test_from:
            raise ValueError(f"protocol.validation_from: {self.validation_from} is not before test_from, {self.test_from}")

    def to_dict(self) -> dict[str, Any]:
        """As a manifest and a record keep it: plain JSON values."""
        values = dataclasses.asdict(self)
        return {name: value.isoformat() if isinstance(value, datetime.date) else value for name, value in values.items()} | {
            "groups": list(self.groups)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A protocol from a manifest."""
        days = {name: datetime.date.fromisoformat(values[name]) for name in ("validation_from", "test_from") if values[name] is not None}
        return cls(**{**values, "groups": tuple(values["groups"]), **days})

    @property
    def exclude_seen(self) -> bool:
        """Whether a user's known items are left out of the ranking."""
        return self.seen_items == "excluded"
