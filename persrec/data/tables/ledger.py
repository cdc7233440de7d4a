"""Which rows of the sources are not in a dataset, and why: rows in = rows kept + rows dropped, always."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Ledger:
    """Rows by what became of them.

    Attributes:
        rows_in: rows of the sources.
        dropped: rows dropped by reason, in the order of the rules; a row counts for the first rule that drops it.
    """

    rows_in: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows_in < 0 or any(rows < 0 for rows in self.dropped.values()) or self.kept < 0:
            raise ValueError(f"ledger: {self.rows_in} rows in, {self.dropped} dropped; expected no more dropped than came in")

    @property
    def kept(self) -> int:
        """Rows that are in the dataset."""
        return self.rows_in - sum(self.dropped.values())

    def drop(self, reason: str, rows: int) -> None:
        """Counts rows that a rule drops; none is no entry."""
        if rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + rows

    def check_kept(self, rows: int) -> None:
        """Raises an AssertionError unless just ``rows`` are left: a row that is neither kept nor counted is a fault of ours."""
        assert self.kept == rows, f"ledger: {self.rows_in} in, {self.dropped}, yet {rows} are kept"  # noqa: S101 - an invariant

    def to_dict(self) -> dict[str, object]:
        """As a manifest and a record keep it."""
        return {"rows_in": self.rows_in, "rows_kept": self.kept, "dropped": dict(self.dropped)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Ledger":
        """A ledger from a manifest."""
        rows_in, dropped = values["rows_in"], values["dropped"]
        assert isinstance(rows_in, int)  # noqa: S101 - written by `to_dict`
        assert isinstance(dropped, dict)  # noqa: S101 - as above
        return cls(rows_in=rows_in, dropped=dict(dropped))
