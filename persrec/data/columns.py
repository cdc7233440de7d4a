"""Raw columns of a table of interactions: taken as they are meant or refused, never guessed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persrec.data.errors import NoMatchError

LATEST = 9_214_646_400  # seconds, the year 2262; beyond it a number is one of milliseconds or finer
_FINER_UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_EXACT_LIMIT = 2.0**53  # floats up to here hold every whole number


def ids(name: str, values: Any) -> tuple[NDArray[Any], str | None]:
    """A column of ids, all whole numbers or all texts.

    Args:
        name: of the column, for errors.
        values: ``[n]``.

    Returns:
        Whole numbers or texts ``[n]``, and what was converted, None where nothing was.

    Raises:
        ValueError: an id is missing, or they are of another kind or of several.
    """
    column = _column(name, values)
    if column.dtype.kind == "U":
        _refuse_first(name, column, column == "", "expected an id in every row")
        return column, None
    return _whole_numbers(name, column, expected="whole numbers or texts")


def seconds(name: str, values: Any) -> tuple[NDArray[np.int64], str | None]:
    """A column of times as whole seconds since 1970: integers are seconds, ``datetime64`` is converted from its unit.

    Returns:
        Seconds ``[n]``, and what was converted, None where nothing was.

    Raises:
        ValueError: a time is missing, no whole number, or beyond the year 2262 if it is one of seconds.
    """
    column = _column(name, values)
    if column.dtype.kind == "M":
        return _from_dates(name, column)
    numbers, converted = _whole_numbers(name, column, expected="whole seconds or datetime64")
    check_seconds(name, numbers)
    return numbers.astype(np.int64), converted


def check_seconds(name: str, values: NDArray[Any]) -> None:
    """Raises a ValueError where a time is negative or so late that it is not one of seconds."""
    if not len(values):
        return
    smallest, largest = int(values.min()), int(values.max())
    if smallest < 0:
        raise ValueError(f"{name}: {smallest} is negative; expected seconds since 1970, 0 where unknown")
    if largest > LATEST:
        unit = next((unit for unit, parts in _FINER_UNITS.items() if largest // parts <= LATEST), None)
        hint = "" if unit is None else f"; divide by {_FINER_UNITS[unit]:,} if these are {unit}"
        raise ValueError(f"{name}: {largest} as seconds lies beyond the year 2262; expected seconds since 1970{hint}")


def sort_keys(name: str, values: Any) -> NDArray[Any]:
    """A column that rows are sorted by: numbers or ``datetime64``.

    Raises:
        ValueError: it holds texts, which would sort as texts, or a missing value.
    """
    column = _column(name, values)
    if column.dtype.kind not in "iufM":
        raise ValueError(f"{name}: {_kind(column)}, such as {column[0]!s}; expected numbers or datetime64")
    if column.dtype.kind in "fM":
        _refuse_first(name, column, ~np.isfinite(column), "expected a value in every row")
    return column


def of_items(name: str, table: Mapping[Any, object], raw_items: list[Any]) -> list[str]:
    """The value of each item in a table by raw id, ``""`` where it has none; None and NaN count as none.

    Raises:
        ValueError: a value is no text.
        NoMatchError: the table has a value for none of the items.
    """
    values = []
    for item in raw_items:
        value = table.get(item)
        if value is None or (isinstance(value, float) and np.isnan(value)):
            value = ""
        if not isinstance(value, str):
            raise ValueError(f"{name}: {value!r} of item {item!r} is {type(value).__name__}; expected text")  # noqa: TRY004 - bad input is one kind of error
        values.append(str(value))
    if not any(value.strip() for value in values):
        example = next(iter(table), None)
        table_ids = "the table is empty" if example is None else f"its ids are like {example!r} ({type(example).__name__})"
        item_ids = f"{raw_items[0]!r} ({type(raw_items[0]).__name__})"
        raise NoMatchError(f"{name}: none of the {len(raw_items):,} items has one; {table_ids}, the items' like {item_ids}")
    return values


def _column(name: str, values: Any) -> NDArray[Any]:
    """The column as an array of numpy's own types."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{name}: {int(np.ma.getmaskarray(values).sum())} masked values; expected a value in every row")
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(f"{name}: shape {column.shape}; expected one dimension")
    return _column_of_objects(name, column.astype(object)) if column.dtype.kind in "OT" else column


def _column_of_objects(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """An array of Python objects as an array of texts or of whole numbers."""
    for row, value in enumerate(column):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            raise ValueError(f"{name}: {value!r} in row {row}; expected a value in every row")
    kinds = {_kind_of(value): value for value in reversed(column)}
    if len(kinds) > 1:
        examples = " and ".join(f"{value!r} ({kind})" for kind, value in list(kinds.items())[:2])
        raise ValueError(f"{name}: of several kinds, such as {examples}; expected one kind in all rows")
    kind = next(iter(kinds), "int")
    if kind not in ("str", "int"):
        raise ValueError(f"{name}: objects of {kind}, such as {column[0]!r}; expected whole numbers, texts or a numpy type")
    try:
        return column.astype(np.str_ if kind == "str" else np.int64)
    except OverflowError:
        raise ValueError(f"{name}: {max(column, key=abs)} does not fit 64 bits; expected whole numbers that do") from None


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return "str"
    return "int" if isinstance(value, int | np.integer) and not isinstance(value, bool) else type(value).__name__


def _whole_numbers(name: str, column: NDArray[Any], *, expected: str) -> tuple[NDArray[Any], str | None]:
    if column.dtype.kind in "iu":
        return column, None
    if column.dtype.kind != "f":
        example = f", such as {column[0]!s}" if len(column) else ""
        raise ValueError(f"{name}: {_kind(column)}{example}; expected {expected}")
    _refuse_first(name, column, ~np.isfinite(column), f"expected {expected}")
    _refuse_first(name, column, (column != np.floor(column)) | (np.abs(column) > _EXACT_LIMIT), f"expected {expected}, without fractions")
    return column.astype(np.int64), f"{column.dtype} to whole numbers"


def _from_dates(name: str, column: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    _refuse_first(name, column, np.isnat(column), "expected a time in every row; for an unknown one, seconds with 0")
    if np.any(np.abs(column.astype("datetime64[Y]").astype(np.int64)) > 10**6):  # years; its seconds could overflow
        raise ValueError(f"{name}: {column.max()!s} cannot be held in seconds; expected times up to the year 2262")
    whole_seconds = column.astype("datetime64[s]")  # rounds down; a coarser unit is a whole number of seconds
    loss = "" if np.array_equal(whole_seconds.astype(column.dtype), column) else ", fractions of a second dropped behind the sorting"
    numbers = whole_seconds.astype(np.int64)
    check_seconds(name, numbers)
    return numbers, f"{column.dtype} to seconds{loss}"


def _refuse_first(name: str, column: NDArray[Any], is_wrong: NDArray[np.bool_], expectation: str) -> None:
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        value = repr(str(column[row])) if column.dtype.kind == "U" else str(column[row])
        raise ValueError(f"{name}: {value} in row {row}, {int(is_wrong.sum())} such rows; {expectation}")


def _kind(column: NDArray[Any]) -> str:
    return {"U": "texts", "S": "bytes", "b": "bool", "m": "durations", "M": "datetime64", "c": "complex numbers"}.get(
        column.dtype.kind, str(column.dtype)
    )
