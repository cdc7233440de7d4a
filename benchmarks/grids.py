"""Grids: which cells a sweep holds. Built-in grids and a user's own are the same TOML, read by the same loader.

A grid file::

    description = "what the grid is for"
    [defaults]                # cell settings
    epochs = 3
    [device.cuda]             # layers over them: device < dataset < backbone < compression < sweep
    batch_size = 256
    [backbone.sasrec]
    layers = 1
    [[sweep]]                 # lists are crossed; a list of lists where the setting itself is a list
    only = "cuda"             # optional: a sweep for one device alone
    backbone = ["hstu", "sasrec"]
    compression = "experts"
    tokens = [0, 4]
    [estimate]                # optional: seconds of one model and one cell, for --list before anything was measured
    [limits]                  # optional: training_seconds, cell_seconds, address_space_bytes
"""

import dataclasses
import difflib
import itertools
import random
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cell import BACKBONE_NAMES, COMPRESSION_NAMES, FLOOR_NAMES, Cell, changed_at_evaluation

PRESETS = Path(__file__).parent / "presets"
DEFAULT_DATASET = "synthetic"
ORDER_SEED = 20260101

SETTINGS: dict[str, Any] = typing.get_type_hints(Cell)
LAYERS = ("device", "dataset", "backbone", "compression")
TABLES = ("description", "defaults", *LAYERS, "sweep", "estimate", "limits")
KNOWN_IN_LAYER: dict[str, tuple[str, ...] | None] = {
    "device": ("cpu", "cuda"),
    "dataset": None,  # persrec.data knows them; a grid may prepare for one that is not there yet
    "backbone": BACKBONE_NAMES + FLOOR_NAMES,
    "compression": COMPRESSION_NAMES,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Seconds that one model and one cell take, as a guess for ``--list``."""

    seconds_per_model: float = 30.0
    seconds_per_cell: float = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How far a process may go before it is ended; no limit changes a number, so none is part of a cell."""

    training_seconds: float = 6 * 3600.0
    cell_seconds: float = 3600.0
    address_space_bytes: int | None = None


Table = typing.TypeVar("Table", Estimate, Limits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The cells of one sweep, without duplicates, in the order of its file."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    estimate: Estimate = Estimate()
    limits: Limits = Limits()


def preset_names() -> list[str]:
    """The built-in grids: those whose file is there, the smallest first."""
    small_to_large = ("smoke", "quick", "full", "profile", "paper")
    names = {path.stem for path in PRESETS.glob("*.toml")}
    return [name for name in small_to_large if name in names] + sorted(names.difference(small_to_large))


def load_grid(name: str, *, device: str, dataset: str | None = None, seeds: Sequence[int] = ()) -> Grid:
    """Reads a built-in grid by name, or a user's by the path of its TOML file.

    Args:
        name: a name of ``preset_names`` or a path that ends in ``.toml``.
        device: ``cpu`` or ``cuda``, the device that every cell is for.
        dataset: the dataset of every cell; without it the file's own, or ``synthetic``.
        seeds: every cell once per seed; without them the file's own.

    Raises:
        ValueError: no such grid, or a field of it that does not hold up; the message names file, sweep and field.
    """
    path = _grid_path(name)
    content = _read_toml(path)
    _check_layers(path, content)
    cells: list[Cell] = []
    sweeps = content.get("sweep", [])
    if not isinstance(sweeps, list) or not sweeps:
        raise ValueError(f"{path}: no [[sweep]], so the grid holds no cell")
    for number, sweep in enumerate(sweeps, start=1):
        where = f"{path}: sweep {number}"
        own, devices = _devices_of(where, sweep)
        combinations = _combinations(where, own)
        for combination in combinations if device in devices else ():
            fixed: dict[str, Any] = {"device": device} | ({"dataset": dataset} if dataset else {})
            settings = _layered(content, combination, fixed)
            cells += _replicated(where, settings, seeds)
    if not cells:
        raise ValueError(f"{path}: every [[sweep]] is for another device than {device}, so the grid holds no cell")
    return Grid(
        name=path.stem,
        description=str(content.get("description", "")),
        cells=tuple(dict.fromkeys(cells)),
        estimate=_table(path, content, "estimate", Estimate),
        limits=_table(path, content, "limits", Limits),
    )


def select(cells: Sequence[Cell], expression: str, *, grid: str) -> tuple[Cell, ...]:
    """The cells that match every term of ``backbone=hstu,tokens=0|4``.

    Raises:
        ValueError: a term is no ``setting=value``, names no setting, has a value of another type, or nothing matches;
            the message lists what is known.
    """
    selected = list(cells)
    for term in filter(None, (part.strip() for part in expression.split(","))):
        name, equals, texts = (part.strip() for part in term.partition("="))
        if not equals:
            raise ValueError(f"--select: {term!r} is not setting=value")
        if name not in SETTINGS:
            raise ValueError(f"--select: unknown setting {name!r}{_nearest(name, SETTINGS)}; known: {', '.join(SETTINGS)}")
        wanted = {_parsed(name, text.strip()) for text in texts.split("|")}
        selected = [cell for cell in selected if getattr(cell, name) in wanted]
        if not selected:
            present = sorted({show(getattr(cell, name)) for cell in cells})
            raise ValueError(f"--select: no cell of grid {grid} matches {expression!r}; {name} is one of: {', '.join(present)}")
    return tuple(selected)


def selecting(cell: Cell, cells: Sequence[Cell]) -> str:
    """The shortest expression, by the order of settings, with which ``select`` finds this cell alone among ``cells``."""
    names = [name for name in SETTINGS if len({getattr(other, name) for other in cells}) > 1]
    for name in list(reversed(names)):
        fewer = [kept for kept in names if kept != name]
        alike = [other for other in cells if all(getattr(other, kept) == getattr(cell, kept) for kept in fewer)]
        if len(alike) == 1:
            names = fewer
    return ",".join(f"{name}={show(getattr(cell, name))}" for name in names)


def shuffled(cells: Sequence[Cell], *, seed: int = ORDER_SEED) -> tuple[Cell, ...]:
    """The order to measure in: shuffled within each dataset, so that a machine that slows down is not one of the axes."""
    blocks: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in cells:
        blocks.setdefault((cell.dataset, cell.dataset_size), []).append(cell)
    generator = random.Random(seed)  # noqa: S311 - an order, not a secret
    for block in blocks.values():
        generator.shuffle(block)
    return tuple(itertools.chain.from_iterable(blocks.values()))


def show(value: object) -> str:
    """A setting's value as ``--select`` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return str(value)


def label(cell: Cell) -> str:
    """A cell in a few words, for progress lines and messages."""
    words = [f"{cell.backbone}/{cell.compression}" if cell.compression != "none" else cell.backbone]
    words.append(f"history={cell.history}+{cell.recent}")
    if cell.compression not in ("none", "full", "recent"):
        words += [f"tokens={cell.tokens}", f"segments={cell.segments}"]
    if cell.compression != "none":
        words.append(cell.serving)
    if cell.training == "elastic":
        words.append("elastic")
    if cell.counted_only:
        words.append("counted only")
    if cell.plan != "equal":
        words.append(f"plan={cell.plan}")
    words += [f"{name}={value}" for name, value in changed_at_evaluation(cell).items()]
    data = cell.dataset if cell.dataset_size is None else f"{cell.dataset}/{cell.dataset_size}"
    return " ".join([*words, f"seed={cell.seed}", data])


def _grid_path(name: str) -> Path:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"--grid: no file {path}")
        return path
    if name not in preset_names():
        known = preset_names()
        raise ValueError(f"--grid: unknown grid {name!r}{_nearest(name, known)}; known: {', '.join(known)}, or the path of a .toml file")
    return PRESETS / f"{name}.toml"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    for name in content:
        if name not in TABLES:
            raise ValueError(f"{path}: unknown table {name!r}{_nearest(name, TABLES)}; known: {', '.join(TABLES)}")
    return content


def _check_layers(path: Path, content: Mapping[str, Any]) -> None:
    """Every override holds up even where no cell of this device or dataset uses it."""
    _check_settings(f"{path}: [defaults]", content.get("defaults", {}))
    for layer in LAYERS:
        tables = _as_table(f"{path}: {layer}", content.get(layer, {}), f"tables such as [{layer}.NAME]")
        known = KNOWN_IN_LAYER[layer]
        for name, settings in tables.items():
            if known is not None and name not in known:
                raise ValueError(f"{path}: [{layer}.{name}]: unknown {layer}{_nearest(name, known)}; known: {', '.join(known)}")
            _check_settings(f"{path}: [{layer}.{name}]", settings)


def _check_settings(where: str, settings: object) -> None:
    for name, value in _as_table(where, settings, "a table of cell settings").items():
        _check_name(where, name)
        _checked(where, name, value)


def _check_name(where: str, name: str) -> None:
    if name == "device":
        raise ValueError(f"{where}: device is chosen by --device, not by a grid")
    if name not in SETTINGS:
        raise ValueError(f"{where}: unknown setting {name!r}{_nearest(name, SETTINGS)}; known: {', '.join(SETTINGS)}")


def _devices_of(where: str, sweep: object) -> tuple[dict[str, Any], Sequence[str]]:
    """A sweep without its ``only``, and the devices that it is for."""
    settings = dict(_as_table(where, sweep, "a table of cell settings"))
    devices = KNOWN_IN_LAYER["device"] or ()
    if "only" not in settings:
        return settings, devices
    only = settings.pop("only")
    if only not in devices:
        raise ValueError(f"{where}: only: {only!r}; expected one of: {', '.join(devices)}")
    return settings, (only,)


def _combinations(where: str, sweep: object) -> Iterable[dict[str, Any]]:
    """Every combination of a sweep's lists."""
    axes: list[list[tuple[str, Any]]] = []
    for name, value in _as_table(where, sweep, "a table of cell settings").items():
        _check_name(where, name)
        crossed = isinstance(value, list) and (SETTINGS[name] != tuple[int, ...] or any(isinstance(entry, list) for entry in value))
        values = value if crossed else [value]
        if not values:
            raise ValueError(f"{where}: {name}: an empty list, so the sweep holds no cell")
        axes.append([(name, _checked(where, name, entry)) for entry in values])
    return (dict(combination) for combination in itertools.product(*axes))


def _layered(content: Mapping[str, Any], combination: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """The settings of one cell: each layer is chosen by what the layers that name it say."""
    settings: dict[str, Any] = {"dataset": DEFAULT_DATASET} | content.get("defaults", {})
    chosen = settings | combination | fixed
    for layer in LAYERS:
        settings |= content.get(layer, {}).get(chosen.get(layer), {})
    return settings | combination | fixed


def _replicated(where: str, settings: dict[str, Any], seeds: Sequence[int]) -> list[Cell]:
    for name in ("backbone", "compression"):
        if name not in settings:
            raise ValueError(f"{where}: {name}: missing; every cell needs one")
    if isinstance(settings.get("elastic_tokens"), list):
        settings["elastic_tokens"] = tuple(settings["elastic_tokens"])
    replicas = [settings | {"seed": seed} for seed in seeds] or [settings]
    try:
        return [Cell(**replica) for replica in replicas]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _checked(where: str, name: str, value: object) -> Any:
    """``value`` as the setting's type wants it: an int may stand for a float, a list for a tuple."""
    hint = SETTINGS[name]
    if hint == tuple[int, ...]:
        if isinstance(value, list) and all(type(entry) is int for entry in value):
            return tuple(value)
    elif hint is float:
        if type(value) in (int, float):
            return float(typing.cast(float, value))
    elif type(value) in _plain_types(hint):
        return value
    raise ValueError(f"{where}: {name}: {value!r} is {type(value).__name__}; expected {_type_name(hint)}")


def _parsed(name: str, text: str) -> Any:
    """The value of a setting from the text of ``--select``."""
    hint = SETTINGS[name]
    try:
        if hint == tuple[int, ...]:
            return () if text == "none" else tuple(int(part) for part in text.split("+"))
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if hint in (int, float):
            return hint(text)
        if hint == int | None:
            return None if text == "none" else int(text)
    except (ValueError, KeyError) as error:
        raise ValueError(f"--select: {name}: {text!r} is no {_type_name(hint)}") from error
    return None if text == "none" and hint is not str else text


def _plain_types(hint: Any) -> tuple[type, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _type_name(hint: Any) -> str:
    if hint == tuple[int, ...]:
        return "a list of int"
    return " or ".join("none" if kind is type(None) else kind.__name__ for kind in _plain_types(hint))


def _table(path: Path, content: Mapping[str, Any], name: str, kind: type[Table]) -> Table:
    known = [field.name for field in dataclasses.fields(kind)]
    values = _as_table(f"{path}: {name}", content.get(name, {}), f"a table with: {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{path}: [{name}]: unknown {key!r}{_nearest(key, known)}; known: {', '.join(known)}")
        if type(value) not in (int, float) or value <= 0:
            raise ValueError(f"{path}: [{name}]: {key}: {value!r}; expected a number above 0")
    return kind(**values)


def _as_table(where: str, value: object, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}; expected {expected}")  # noqa: TRY004 - a file's content is input, not a type error
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
