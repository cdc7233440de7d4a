"""Grids: which cells a sweep holds. Built-in grids and a user's own are the same TOML, read by the same loader.

A grid file::

    description = "what the grid is for"
    [defaults]                # cell settings
    epochs = 3
    [device.cuda]             # layers over them: device < dataset < backbone < data < compression < sweep
    batch_size = 256
    [backbone.sasrec]
    layers = 1
    [data.large]              # small or large: data of up to or above 500,000 interactions
    layers = 2
    [data.repeats]            # over that, for data other than the grid's own whose users may take an item again
    counts = "all"
    [[sweep]]                 # lists are crossed; a list of lists where the setting itself is a list
    only = "cuda"             # optional: for one device, small, large or repeats data, or the grid's own dataset (own); a list: all of it
    backbone = ["hstu", "sasrec"]
    compression = "experts"
    tokens = [0, 4]
    [estimate]                # optional: seconds of one model and one cell, for --list before anything was measured
    [estimate.large]          # optional: the same on large data
    [limits]                  # optional: training_seconds, cell_seconds (inf: no limit), address_space_bytes, processes, costs_alone
    [slurm]                   # optional: what a cluster is asked for (`benchmarks.grids.cluster`)
"""

import functools
import itertools
import math
import random
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell, check_parts
from benchmarks.grids.cluster import LANES, ClusterRequest, LaneRequest
from benchmarks.grids.values import as_table, shown, table_of, typed_value
from benchmarks.peers.part import PEERS
from persrec import names
from persrec.names import nearest

PRESETS = Path(__file__).parent / "presets"
DEFAULT_DATASET = "synthetic"
ORDER_SEED = 20260101
MOST_CELLS = 100_000
LARGEST_SIZE = 2**24  # of any whole number but a seed: beyond it lies a mistyped digit, not an experiment

SETTINGS: dict[str, Any] = typing.get_type_hints(Cell)
LAYERS = ("device", "dataset", "backbone", "data", "compression")
MOST_PROCESSES = 100
TABLES = ("description", "defaults", *LAYERS, "sweep", "estimate", "limits", "slurm")
LARGE = 500_000  # interactions; data with more are large, and a sweep over many models of them takes days
DATA = ("small", "large")
REPEATS = "repeats"  # data whose users may take an item again, other than the grid's own
OWN = "own"  # of a sweep: for the grid's own dataset, and for no other

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """How many ``interactions`` a dataset has, and whether its users may take an item again: seen items stay in the ranking."""

    interactions: int
    repeats: bool


Sizes = Callable[[str, str | None], DataSize]  # of a dataset and one of its sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class Durations:
    """Seconds that one model and one cell take, as a guess for ``--list``."""

    seconds_per_model: float = 30.0
    seconds_per_cell: float = 5.0

    def __post_init__(self) -> None:
        for name in ("seconds_per_model", "seconds_per_cell"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)}; expected a finite number above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How far a process may go before it is ended, and how many processes measure each timed cost; no cell's key depends on it.

    Seconds may be infinite: no limit. A timed cost of one process has no interval, and no verdict rests on it. Without ``costs_alone``,
    costs are counted as well, but timed briefly and badly: for a grid that asks whether things run.
    """

    training_seconds: float = 6 * 3600.0
    cell_seconds: float = 3600.0
    address_space_bytes: int | None = None
    processes: int = 3
    costs_alone: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.processes <= MOST_PROCESSES:
            raise ValueError(f"processes: {shown(self.processes)}; expected 1 to {MOST_PROCESSES}")
        for name in ("training_seconds", "cell_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)}; expected a number above 0, or inf for no limit")
        if self.address_space_bytes is not None and not 0 < self.address_space_bytes < 2**63:
            raise ValueError(f"address_space_bytes: {shown(self.address_space_bytes)}; expected a whole number above 0 and below 2^63")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The cells of one sweep, without duplicates, in the order of its file."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    estimate: Durations = Durations()
    limits: Limits = Limits()
    cluster: ClusterRequest = field(default_factory=ClusterRequest)


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """The content of a grid file; ``layers`` are settings by layer and name, ``sweeps`` are as they were written."""

    path: Path
    description: str
    defaults: Settings
    layers: Mapping[str, Mapping[str, Settings]]
    sweeps: Sequence[object]
    estimate: Mapping[str, Durations]
    limits: Limits
    cluster: ClusterRequest

    @property
    def tells_data_apart(self) -> bool:
        """Whether a part of it is for some data alone."""
        conditions = [
            _only(f"{self.path}: sweep {number}", sweep)[1] for number, sweep in enumerate(self.sweeps, 1) if isinstance(sweep, dict)
        ]
        return bool(self.layers["data"]) or any({*DATA, REPEATS} & only for only in conditions)


def preset_names() -> list[str]:
    """The built-in grids: those whose file is there, the smallest first."""
    small_to_large = ("smoke", "quick", "full", "complete", "profile", "paper")
    names = {path.stem for path in PRESETS.glob("*.toml")}
    return [name for name in small_to_large if name in names] + sorted(names.difference(small_to_large))


def load_grid(
    name: str,
    *,
    device: str,
    dataset: str | None = None,
    split: str | None = None,
    protocol: str | None = None,
    seeds: Sequence[int] = (),
    sizes: Sizes | None = None,
) -> Grid:
    """Reads a built-in grid by name, or a user's by the path of its TOML file.

    Args:
        name: a name of ``preset_names`` or a path that ends in ``.toml``.
        device: ``cpu`` or ``cuda``, the device that every cell is for.
        dataset: the dataset of every cell; without it the file's own, or ``synthetic``.
        split: the split of every cell; without it the file's own, or leave-one-out.
        protocol: the protocol of every cell, of `persrec.names.PROTOCOLS`; without it the file's own, or all events.
        seeds: every cell once per seed; without them the file's own.
        sizes: gives the size of a dataset, where the file tells data apart; without it data are small, and repeats are not known.

    Raises:
        ValueError: no such grid, or a field of it that does not hold up; the message names file, sweep and field.
    """
    file = _read(_grid_path(name))
    overrides = {"dataset": dataset, "split": split, "protocol": protocol}
    fixed: Settings = {"device": device} | {setting: value for setting, value in overrides.items() if value}
    if sizes is not None:
        sizes = functools.cache(sizes) if file.tells_data_apart else None
    cells: dict[Cell, None] = {}
    largest = "small"
    for number, sweep in enumerate(file.sweeps, start=1):
        where = f"{file.path}: sweep {number}"
        own, only = _only(where, sweep)
        axes = _axes(where, own)
        count = math.prod(len(axis) for axis in axes) * max(1, len(seeds))
        if len(cells) + count > MOST_CELLS:
            raise ValueError(f"{where}: {count} cells; expected at most {MOST_CELLS} in a grid")
        for combination in itertools.product(*axes) if only <= {device, *DATA, REPEATS, OWN} else ():
            is_own = _is_own(file, dict(combination), fixed)
            if OWN in only and not is_own:
                continue
            settings, data = _layered(file, dict(combination), fixed, sizes, is_own=is_own)
            if only <= {device, *data, OWN}:
                cells |= dict.fromkeys(_cells(where, settings, seeds))
                largest = max(largest, data[0], key=DATA.index)
    if not cells:
        raise ValueError(f"{file.path}: every [[sweep]] is for another device than {device} or for other data, so the grid holds no cell")
    return Grid(
        name=file.path.stem,
        description=file.description,
        cells=tuple(cells),
        estimate=file.estimate[largest],
        limits=file.limits,
        cluster=file.cluster,
    )


def shuffled(cells: Sequence[Cell], *, seed: int = ORDER_SEED) -> tuple[Cell, ...]:
    """The order to measure in: shuffled within each dataset, so that a machine that slows down is not one of the axes."""
    blocks: dict[tuple[str, str | None, str], list[Cell]] = {}
    for cell in cells:
        blocks.setdefault(cell.data, []).append(cell)
    generator = random.Random(seed)  # noqa: S311 - an order, not a secret
    for block in blocks.values():
        generator.shuffle(block)
    return tuple(itertools.chain.from_iterable(blocks.values()))


def _grid_path(name: str) -> Path:
    presets = preset_names()
    if name.endswith(".toml"):
        path = Path(name)
        if path.stem in presets and path.is_file() and not path.samefile(PRESETS / path.name):
            raise ValueError(f"--grid: {name}: a built-in grid has the name {path.stem!r}, and by default its folders; rename the file")
        return path
    if name not in presets:
        raise ValueError(f"--grid: unknown grid {name!r}{nearest(name, presets)}; known: {', '.join(presets)}, or the path of a .toml file")
    return PRESETS / f"{name}.toml"


def _read(path: Path) -> _File:
    """A grid file, checked as a whole: every layer holds up even where no cell of this device or dataset uses it."""
    content = _toml(path)
    for name in content:
        if name not in TABLES:
            raise ValueError(f"{path}: unknown table {name!r}{nearest(name, TABLES)}; known: {', '.join(TABLES)}")
    sweeps = content.get("sweep", [])
    if not isinstance(sweeps, list) or not sweeps:
        raise ValueError(f"{path}: no [[sweep]], so the grid holds no cell")
    return _File(
        path=path,
        description=typed_value(f"{path}: description", content.get("description", ""), str),
        defaults={"dataset": DEFAULT_DATASET} | _settings(f"{path}: [defaults]", content.get("defaults", {})),
        layers={layer: _layer(path, layer, content.get(layer, {})) for layer in LAYERS},
        sweeps=sweeps,
        estimate=_estimates(path, content.get("estimate", {})),
        limits=table_of(f"{path}: [limits]", content.get("limits", {}), Limits),
        cluster=_cluster(path, content.get("slurm", {})),
    )


def _estimates(path: Path, tables: object) -> dict[str, Durations]:
    """Durations by kind of data."""
    own = dict(as_table(f"{path}: [estimate]", tables, "a table of seconds"))
    more = own.pop("large", {})
    large = own | as_table(f"{path}: [estimate.large]", more, "a table of seconds")
    return {"small": table_of(f"{path}: [estimate]", own, Durations), "large": table_of(f"{path}: [estimate.large]", large, Durations)}


def _cluster(path: Path, tables: object) -> ClusterRequest:
    """What is asked for in each lane: its own table over that of all lanes."""
    common = dict(as_table(f"{path}: [slurm]", tables, "a table of what a cluster is asked for"))
    own = {lane: (where := f"{path}: [slurm.{lane}]", as_table(where, common.pop(lane, {}), "a table")) for lane in LANES}
    table_of(f"{path}: [slurm]", common, LaneRequest)
    return ClusterRequest(**{lane: table_of(where, common | table, LaneRequest) for lane, (where, table) in own.items()})


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise ValueError(f"--grid: no file {path}") from error
    except OSError as error:
        raise ValueError(f"--grid: {path}: {error.strerror or error}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deep to be read") from error
    except ValueError as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise ValueError(f"{path}: {error}") from error


def _layer(path: Path, layer: str, tables: object) -> dict[str, Settings]:
    choices = _choices_of(layer)
    for name in as_table(f"{path}: {layer}", tables, f"tables such as [{layer}.NAME]"):
        if choices is not None and name not in choices:
            raise ValueError(f"{path}: [{layer}.{name}]: unknown {layer}{nearest(name, choices)}; known: {', '.join(choices)}")
    return {name: _settings(f"{path}: [{layer}.{name}]", settings) for name, settings in typing.cast("Settings", tables).items()}


def _choices_of(layer: str) -> tuple[str, ...] | None:
    """The names that a layer's tables may have; ``None`` for datasets, as a grid may prepare for one that is not there yet."""
    by_layer: dict[str, tuple[str, ...]] = {
        "device": names.DEVICES,
        "data": (*DATA, REPEATS),
        "backbone": (*names.backbones(), *names.floors(), *PEERS),
        "compression": (names.NO_COMPRESSION, names.PEER, *names.compressions()),
    }
    return by_layer.get(layer)


def _settings(where: str, settings: object) -> Settings:
    table = as_table(where, settings, "a table of cell settings")
    return {name: _setting(where, name, value) for name, value in table.items()}


def _only(where: str, sweep: object) -> tuple[Settings, set[str]]:
    """A sweep without its ``only``, and the conditions in it, which must all hold."""
    settings = dict(as_table(where, sweep, "a table of cell settings"))
    only = settings.pop("only", [])
    conditions, choices = only if isinstance(only, list) else [only], (*names.DEVICES, *DATA, REPEATS, OWN)
    for one in conditions:
        if one not in choices:
            raise ValueError(f"{where}: only: {shown(one)}; expected one of: {', '.join(choices)}")
    return settings, set(conditions)


def _axes(where: str, sweep: Settings) -> list[list[tuple[str, Any]]]:
    """Each setting of a sweep with its values: a list is crossed, and of a setting that is a list itself, a list of lists."""
    axes: list[list[tuple[str, Any]]] = []
    for name, value in sweep.items():
        _check_name(where, name)
        crossed = isinstance(value, list) and (SETTINGS[name] != tuple[int, ...] or any(isinstance(entry, list) for entry in value))
        values = value if crossed else [value]
        if not values:
            raise ValueError(f"{where}: {name}: an empty list, so the sweep holds no cell")
        axes.append([(name, _setting(where, name, entry)) for entry in values])
    return axes


def _is_own(file: _File, combination: Settings, fixed: Settings) -> bool:
    """Whether a cell is of the grid's own dataset."""
    return bool((file.defaults | combination | fixed)["dataset"] == file.defaults["dataset"])


def _layered(file: _File, combination: Settings, fixed: Settings, sizes: Sizes | None, *, is_own: bool) -> tuple[Settings, tuple[str, ...]]:
    """The settings of one cell, with the layers that its defaults, sweep and call name; and what its data are, small or large first."""
    settings = dict(file.defaults)
    base = settings | combination | fixed
    data: tuple[str, ...] = ()
    for layer in LAYERS:
        names_of_layer: tuple[str, ...] = (base.get(layer, ""),)
        if layer == "data":  # the layers before it say which data these are
            size = None if sizes is None else sizes(base["dataset"], (settings | combination | fixed).get("dataset_size"))
            data = (DATA[size is not None and size.interactions > LARGE],)
            names_of_layer = data = (*data, REPEATS) if size is not None and size.repeats and not is_own else data
        for name in names_of_layer:
            settings |= file.layers[layer].get(name, {})
    return settings | combination | fixed, data


def _cells(where: str, settings: Settings, seeds: Sequence[int]) -> list[Cell]:
    """A cell for each seed."""
    for name in ("backbone", "compression"):
        if name not in settings:
            raise ValueError(f"{where}: {name}: missing; every cell needs one")
    settings = _timed_as_protocol(settings)
    try:
        cells = [Cell(**settings | {"seed": seed}) for seed in seeds] or [Cell(**settings)]
        check_parts(cells[0])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return cells


def _timed_as_protocol(settings: Settings) -> Settings:
    """The settings with the times that the protocol's rows have, unless they say it themselves: under a protocol without times, none.

    If a cell of ours still asks for the times of its items, it is not told the time of the request; a peer has all times or none.
    """
    own = names.backbones().get(settings["backbone"])
    part = own or PEERS.get(settings["backbone"])
    reads = part is not None and part.reads_times
    if names.PROTOCOLS.get(settings.get("protocol", names.OWN_PROTOCOL), True) or not reads or "request_time" in settings:
        return settings
    return {"time_bias": False} | settings | ({"request_time": False} if own and settings.get("time_bias") else {})


def _check_name(where: str, name: str) -> None:
    if name == "device":
        raise ValueError(f"{where}: device is chosen by --device, not by a grid")
    if name not in SETTINGS:
        raise ValueError(f"{where}: unknown setting {name!r}{nearest(name, SETTINGS)}; known: {', '.join(SETTINGS)}")


def _setting(where: str, name: str, value: object) -> Any:
    """The value of a cell's setting, in its type."""
    _check_name(where, name)
    where = f"{where}: {name}"
    setting = typed_value(where, value, SETTINGS[name])
    if isinstance(setting, float) and not math.isfinite(setting):
        raise ValueError(f"{where}: {setting}; expected a finite number")
    if where.endswith(": dataset") and str(setting).lower().endswith(".toml"):
        raise ValueError(f"{where}: {shown(value)}; expected the name of a dataset; a table of your own is given by --dataset FILE.toml")
    for number in setting if isinstance(setting, tuple) else (setting,):
        if isinstance(number, int) and name != "seed" and number > LARGEST_SIZE:
            raise ValueError(f"{where}: {shown(number)}; expected at most {LARGEST_SIZE}")
    return setting
