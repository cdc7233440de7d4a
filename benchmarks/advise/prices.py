"""The TOML of prices: what a machine is and costs.

::

    [machine]
    name = "8 cores, 32 GiB"
    cores = 8
    memory_gib = 32
    price_per_hour = 0.40
    currency = "EUR"      # optional
    gpus = 0              # optional; only for what was measured on a GPU
    highest_load = 0.6    # optional; the share of the processors' time that is planned for
"""

from pathlib import Path

import msgspec

from benchmarks.analysis.fleet import Machine
from benchmarks.records import Environment


class _MachineTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    name: str
    cores: int
    memory_gib: float
    price_per_hour: float
    currency: str = ""
    gpus: int = 0
    highest_load: float = 0.6


class _Prices(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    machine: _MachineTable


def read_prices(path: Path) -> Machine:
    """The machine of a TOML.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, a field is missing, unknown or out of range; the message names file and field.
    """
    try:
        table = msgspec.toml.decode(path.read_bytes(), type=_Prices).machine
    except RecursionError as error:
        raise ValueError(f"--prices: {path}: nested too deep to be read") from error
    except ValueError as error:  # msgspec's errors are ValueErrors, and so is tomllib's
        raise ValueError(f"--prices: {path}: {error}") from error
    least = {"cores": 1, "memory_gib": 0.001, "price_per_hour": 0, "gpus": 0}
    for name, low in least.items():
        if not low <= getattr(table, name) < 1e12:
            raise ValueError(f"--prices: {path}: machine.{name}: {getattr(table, name)}; expected a number from {low}")
    if not 0 < table.highest_load <= 1:
        raise ValueError(f"--prices: {path}: machine.highest_load: {table.highest_load}; expected above 0 and at most 1")
    return Machine(
        name=table.name,
        cores=table.cores,
        memory_bytes=int(table.memory_gib * 2**30),
        gpus=table.gpus,
        price_per_hour=table.price_per_hour,
        currency=table.currency,
        highest_load=table.highest_load,
    )


def measured_machine(facts: Environment) -> Machine | None:
    """The machine that the costs were measured on, without a price; None where its record does not say what it has."""
    if not facts.cores or not facts.memory_bytes:
        return None
    return Machine(
        name=f"the one that was measured: {facts.cpu or 'unknown processor'}",
        cores=facts.cores,
        memory_bytes=facts.memory_bytes,
        gpus=1 if facts.gpu else 0,
    )
