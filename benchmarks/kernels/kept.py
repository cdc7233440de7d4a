"""What a run of ``benchmarks.kernels`` has measured so far, kept in a file, so that a run that was stopped goes on. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kernels.record import KernelRow, KernelSettings, to_json
from benchmarks.records import read_typed
from persrec.files import write_atomically

SCHEMA_VERSION = 1
WHAT = "a file of what benchmarks.kernels has measured so far"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputCheck:
    """How far a row's outputs are from those of the plain form, and how far they may be, as of `KernelRow`."""

    largest_difference: float
    tolerance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """What two runs must share for one to go on from the other.

    Attributes:
        settings: how rows are measured.
        processes: of each row.
        fingerprint: of the machine.
        code: the digest of what measures the rows.
    """

    settings: KernelSettings
    processes: int
    fingerprint: str
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelParts:
    """The comparisons and the processes of rows, by their names."""

    run: RunIdentity
    comparisons: dict[str, OutputCheck] = field(default_factory=dict)
    rows: dict[str, list[KernelRow]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def count(self) -> int:
        """Processes so far."""
        return len(self.comparisons) + sum(map(len, self.rows.values()))


class Keeper:
    """Keeps `KernelParts` in a file.

    Args:
        path: the file's place; None keeps nothing.
        run: what is run now. Parts of another run are not used, and the next part takes their place.

    Attributes:
        parts: of this run, so far.

    Raises:
        RecordError: the file cannot be read, or is no such file.
    """

    def __init__(self, path: Path | None, run: RunIdentity) -> None:
        self._path = path
        stored = None
        if path is not None and path.exists():
            stored = read_typed(path, KernelParts, version=SCHEMA_VERSION, what=WHAT, again="run benchmarks.kernels")
        self.parts = stored if stored is not None and stored.run == run else KernelParts(run=run)

    def compared(self, name: str, comparison: OutputCheck) -> None:
        """Keeps a row's comparison.

        Raises:
            WriteError: the file cannot be written.
        """
        self.parts.comparisons[name] = comparison
        self._write()

    def measured(self, name: str, row: KernelRow) -> None:
        """Keeps one process of a row.

        Raises:
            WriteError: the file cannot be written.
        """
        self.parts.rows.setdefault(name, []).append(row)
        self._write()

    def done(self) -> None:
        """Removes the file: its run has a record."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path is not None:
            write_atomically(self._path, to_json(self.parts))
