"""Which configuration fits a budget, and the lines that serve it: ``python -m benchmarks.advise results/NAME --max-latency-ms 5``."""

import argparse
import dataclasses
import json
import math
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import store
from benchmarks.advise.fleets import assumptions, fleet_lines, fleet_values
from benchmarks.advise.lines import serving_lines
from benchmarks.advise.prices import measured_machine, read_prices
from benchmarks.advise.words import advice_lines, first_lines, labels_of, to_values
from benchmarks.analysis.advice import PERCENTILES, Advice, Budget, Candidate, advise, servable
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, configurations
from benchmarks.analysis.fleet import SECONDS_A_DAY, Demand, Machine, fleet
from benchmarks.environment.portable import shell_line
from benchmarks.grids.selection import select
from benchmarks.labels import Titles
from benchmarks.records import Record, RunRecords, load_records
from persrec.commandline import DONE, INCOMPLETE, NOTHING_FITS, Parser, guarded, refuse, whole
from persrec.files import write_atomically

_PROGRAM = "python -m benchmarks.advise"
_MOST = 10**15  # the largest bound; bounds are multiplied, and the product must stay finite
_AGREES = 0.05  # how far the requests per refresh of the command line may be from those implied, as a share


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_PROGRAM, lambda: _main(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="Says which configuration of a run fits a serving budget, what binds, and how sure that is.")
    parser.add_argument("results", type=Path, metavar="results/NAME")
    budget = parser.add_argument_group("the budget")
    budget.add_argument("--max-latency-ms", type=_positive, metavar="MS", help="of one request, at --percentile")
    budget.add_argument("--percentile", type=int, choices=PERCENTILES, default=95, help="of the latency (default: 95)")
    budget.add_argument("--max-cache-kb", type=_not_negative, metavar="KIB", help="kept of one user, in units of 1,024 bytes")
    budget.add_argument("--min-retention", type=_positive, metavar="SHARE", help="quality over full history's, such as 0.97")
    budget.add_argument("--min-ndcg", type=_positive, metavar="VALUE", help="the quality itself, of --metric")
    budget.add_argument("--metric", choices=QUALITY_METRICS, default=QUALITY_METRICS[0], help="the quality (default: ndcg@10)")
    budget.add_argument("--requests-per-refresh", type=whole(1, _MOST), metavar="R", help="served from one compressed history (default: 1)")
    budget.add_argument("--select", metavar="EXPR", help="among the cells that match alone, as in benchmarks.run")
    demand = parser.add_argument_group("the fleet")
    demand.add_argument("--users", type=whole(1, _MOST), metavar="N")
    demand.add_argument("--requests-per-second", type=_positive, metavar="Q", help="of all users together")
    demand.add_argument("--refreshes-per-day", type=_positive, metavar="F", help="of one user")
    demand.add_argument("--prices", type=Path, metavar="FILE.toml", help="what a machine is and costs; its form is in docs/advise.md")
    parser.add_argument("--top", type=whole(1, _MOST), default=5, metavar="N", help="how many are shown (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answer as JSON, too")
    return parser


@dataclass(frozen=True, kw_only=True, slots=True)
class _Query:
    """What the command line asks for."""

    results: Path
    budget: Budget
    demand: Demand | None
    machine: Machine | None
    top: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Peers:
    """Configurations whose numbers may stand side by side, and which of them may be chosen."""

    title: str
    members: Sequence[Configuration]
    chosen: Collection[str]


def _main(options: argparse.Namespace) -> int:
    query = _query(options)
    if options.json is not None:
        store.check_file("--json", options.json)
    records = load_records(options.results)
    groups = _groups(records, options)
    if not groups:
        refuse(_PROGRAM, f"{options.results}: no configuration that was measured and can be served")
        return INCOMPLETE
    pages, answers, fits = [], [], False
    for peers in groups:
        advice = advise(peers.members, query.budget, chosen=peers.chosen)
        pages.append("\n".join(_printable(line) for line in _lines(advice, peers, query)))
        answers.append({"data": peers.title, **to_values(advice, peers.members, most=query.top), **_serving_values(advice, peers, query)})
        fits = fits or bool(advice.fits)
    print("\n\n".join(pages))
    if options.json is not None:
        values = {"results": str(options.results), "answers": answers}
        write_atomically(options.json, json.dumps(values, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n")
    return DONE if fits else NOTHING_FITS


def _query(options: argparse.Namespace) -> _Query:
    demand = _demand(options)
    per_refresh = options.requests_per_refresh
    if demand is not None and options.refreshes_per_day is not None:
        implied = demand.requests_per_refresh
        if per_refresh is not None and abs(implied - per_refresh) > _AGREES * per_refresh:
            raise ValueError(
                f"--requests-per-refresh: {per_refresh}, but the users, requests and refreshes that were stated make {implied:.3g}; "
                "leave one of --requests-per-refresh and --refreshes-per-day out"
            )
        per_refresh = per_refresh or implied
    return _Query(
        results=options.results,
        budget=Budget(
            max_latency_ms=options.max_latency_ms,
            max_cache_bytes=None if options.max_cache_kb is None else options.max_cache_kb * 1024,
            min_retention=options.min_retention,
            min_quality=options.min_ndcg,
            requests_per_refresh=per_refresh or 1,
            percentile=options.percentile,
            metric=options.metric,
        ),
        demand=demand,
        machine=None if options.prices is None else read_prices(options.prices),
        top=options.top,
    )


def _demand(options: argparse.Namespace) -> Demand | None:
    """The fleet's demand; refreshes per day may follow from requests per refresh."""
    required = {"--users": options.users, "--requests-per-second": options.requests_per_second}
    if not any((*required.values(), options.refreshes_per_day, options.prices)):
        return None
    missing = [name for name, value in required.items() if value is None]
    if missing or not (options.refreshes_per_day or options.requests_per_refresh):
        missing = missing or ["--refreshes-per-day"]
        raise ValueError(f"{missing[0]}: missing; a fleet takes --users, --requests-per-second and --refreshes-per-day")
    refreshes = options.refreshes_per_day
    if refreshes is None:
        refreshes = options.requests_per_second * SECONDS_A_DAY / (options.users * options.requests_per_refresh)
    return Demand(users=options.users, requests_per_second=options.requests_per_second, refreshes_per_day=refreshes)


def _groups(records: RunRecords, options: argparse.Namespace) -> list[_Peers]:
    among = configurations(records)
    cells = [record.cell for record in records]
    selection = set(select(cells, options.select, grid=str(options.results)) if options.select else cells)
    groups: dict[tuple[object, ...], list[Configuration]] = {}
    for one in among:
        cell = one.cell
        key = (cell.dataset, cell.dataset_size or "", cell.split, cell.protocol, one.dataset_digest, cell.device, cell.dtype)
        groups.setdefault(key, []).append(one)
    peers = []
    for members in groups.values():
        keys = {one.key for one in servable(members) if any(record.cell in selection for record in one.records)}
        if keys:
            peers.append(_Peers(title=_title(members[0]), members=members, chosen=keys))
    return peers


def _title(one: Configuration) -> str:
    data = Titles.of(one.parts.all()).dataset(one.cell)
    return f"{data}, {one.cell.device}, {one.cell.dtype}"


def _lines(advice: Advice, peers: _Peers, query: _Query) -> Iterator[str]:
    yield f"{query.results}: {peers.title}"
    yield from first_lines(peers.members, query.budget.metric)
    yield ""
    yield from advice_lines(advice, peers.members, most=query.top)
    if advice.fits:
        yield from _serving(advice.fits[0], query.results)
    if advice.fits and query.demand is not None:
        yield from _fleets(advice.fits[: query.top], query, query.demand, peers)


def _serving(choice: Candidate, results: Path) -> Iterator[str]:
    """The lines that serve the first choice, and where its model is."""
    record = _record(choice)
    yield ""
    if record.model is None:
        yield "No lines to serve it: nothing was trained, this is cost alone."
        return
    yield f"To serve the first, seed {record.cell.seed}:"
    if not _is_kept(record, results):
        yield f"its model is not in {store.model_dir(results, record.model.key).parent}; this trains it: {_rerun(record, results)}"
    yield ""
    yield from (f"    {line}".rstrip() for line in serving_lines(record, results).splitlines())


def _record(choice: Candidate) -> Record:
    """The seed whose model is the best on validation."""

    def figure(record: Record) -> float:
        model = record.model
        value = None if model is None else model.validation if model.validation is not None else model.best_validation
        return -math.inf if value is None else value

    return max(choice.configuration.measured, key=figure)


def _is_kept(record: Record, results: Path) -> bool:
    return record.model is not None and (store.model_dir(results, record.model.key) / "model.json").is_file()


def _rerun(record: Record, results: Path) -> str:
    """The command that made the record, with the folder that is asked about, which may have another name by now."""
    words = shlex.split(record.provenance.rerun) if record.provenance.rerun else list(record.provenance.argv)
    pairs = zip(["", *words], words, strict=False)
    kept = [word for before, word in pairs if before != "--out" and word != "--out" and not word.startswith("--out=")]
    return shell_line([*kept, "--out", str(results)])


def _fleets(choices: Sequence[Candidate], query: _Query, demand: Demand, peers: _Peers) -> Iterator[str]:
    labels = labels_of(peers.members)
    machine = _machine(choices[0], query)
    yield ""
    rates = f"{demand.requests_per_second:g} requests a second, {demand.refreshes_per_day:.3g} refreshes a day each"
    yield f"For {demand.users:,} users, {rates}:"
    for choice in choices:
        yield from fleet_lines(choice, fleet(choice.configuration, demand, machine), machine, labels)
    yield "Assumed:"
    yield from (f"- {line}" for line in assumptions(demand, machine, choices[0]))


def _machine(choice: Candidate, query: _Query) -> Machine:
    """The machine of the prices, else the one that the costs were measured on."""
    if query.machine is not None:
        return query.machine
    cost = choice.configuration.measured[0].cost
    machine = None if cost is None else measured_machine(cost.environment)
    if machine is None:
        raise ValueError("--prices: missing; the records do not say what the machine has that was measured")
    return machine


def _serving_values(advice: Advice, peers: _Peers, query: _Query) -> dict[str, Any]:
    if not advice.fits:
        return {"serve": None, "fleet": None}
    record = _record(advice.fits[0])
    serve = None
    if record.model is not None:
        lines = serving_lines(record, query.results)
        serve = {
            "cell_key": record.cell_key,
            "model_kept": _is_kept(record, query.results),
            "rerun": _rerun(record, query.results),
            "python": lines,
        }
    if query.demand is None:
        return {"serve": serve, "fleet": None}
    machine, labels, choices = _machine(advice.fits[0], query), labels_of(peers.members), advice.fits[: query.top]
    return {
        "serve": serve,
        "fleet": {
            "demand": dataclasses.asdict(query.demand),
            "machine": dataclasses.asdict(machine),
            "assumptions": assumptions(query.demand, machine, choices[0]),
            "configurations": [fleet_values(one, fleet(one.configuration, query.demand, machine), labels) for one in choices],
        },
    }


def _printable(line: str) -> str:
    """A line without control characters for the terminal: names come from records, which may hold any."""
    return "".join(character if character.isprintable() else " " for character in line)


def _not_negative(argument: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = -1.0
    if value != 0 and not 1 / _MOST <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{argument!r}; expected a number of at most {_MOST:g}")
    return value


def _positive(argument: str) -> float:
    if not (value := _not_negative(argument)):
        raise argparse.ArgumentTypeError(f"{argument!r}; expected above 0")
    return value
