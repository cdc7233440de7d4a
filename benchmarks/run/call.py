"""What one call of ``python -m benchmarks.run`` asks for, refused before anything is created."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.environment import available_processors, chosen_device
from benchmarks.grids import DataSize, Grid, load_grid
from benchmarks.grids.selection import select, terms
from benchmarks.labels import Labels
from benchmarks.peers.environment import check_environment
from benchmarks.report.page import check_place
from benchmarks.run.plan import Data
from benchmarks.run.slurm import check_slurm
from benchmarks.store import check_out, report_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A validated call: nothing of its run was created yet."""

    options: argparse.Namespace
    grid: Grid
    cells: tuple[Cell, ...]
    labels: Labels
    device: str
    out: Path
    digests: dict[Data, str]
    dataset_file: str | None

    @property
    def on_cluster(self) -> bool:
        """Whether jobs of Slurm do the work."""
        return bool(self.options.executor == "slurm")

    @property
    def workers(self) -> int:
        """How many models are trained side by side; on a cluster, how many jobs are in its queue at once."""
        if self.options.workers is not None:
            return int(self.options.workers)
        if self.on_cluster:
            return self.grid.cluster.jobs
        return 1 if self.device == "cuda" else max(1, len(available_processors()) // self.threads)

    @property
    def threads(self) -> int:
        """Processors that a worker takes at most: the threads of all processes of a model's training."""
        return max(cell.threads * cell.world_size for cell in self.cells)


def validated(options: argparse.Namespace) -> Call:
    """The call that options ask for; nothing is created, but data whose size a grid asks for may be prepared.

    Raises:
        ValueError: something of it cannot be done; the message names the option.
    """
    from persrec.data import check_sources, dataset_digest, dataset_name, size_of  # noqa: PLC0415 - heavy, and --help needs none

    terms(options.select)  # first, as asking for the size of data may prepare them
    own = dataset_name(options.dataset) if options.dataset else None
    files = {own: options.dataset} if own is not None and own != options.dataset else {}

    def sizes(name: str, size: str | None) -> DataSize:
        count, repeats = size_of(files.get(name, name), size, data_dir=options.data_dir, cache_dir=options.cache_dir)
        return DataSize(interactions=count, repeats=repeats)

    on_cluster = options.executor == "slurm"
    if on_cluster and not options.list:
        check_slurm()
    if options.out is not None:
        check_out(options.out)  # before data are prepared
    device = options.device if on_cluster and options.device != "auto" else chosen_device(options.device)  # a login node may have no GPU
    grid = load_grid(
        options.grid, device=device, dataset=own, split=options.split, protocol=options.protocol, seeds=options.seeds, sizes=sizes
    )
    cells = select(grid.cells, options.select, grid=grid.name)
    digests: dict[Data, str] = {}
    for name, size, protocol in dict.fromkeys(cell.data for cell in cells):
        check_sources(files.get(name, name), size=size, data_dir=options.data_dir, cache_dir=options.cache_dir)
        digests[name, size, protocol] = dataset_digest(files.get(name, name), size=size, data_dir=options.data_dir)
    check_environment(() if options.list else cells, options.cache_dir)
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    out = options.out or Path("results") / f"{grid.name}-{datasets[0] if len(datasets) == 1 else 'mixed'}-{device}"
    check_out(out)
    if not options.no_report and not options.list:
        check_place(report_path(out))
    return Call(
        options=options,
        grid=grid,
        cells=cells,
        labels=Labels.of(grid.cells),
        device=device,
        out=out,
        digests=digests,
        dataset_file=next(iter(files.values()), None),
    )
