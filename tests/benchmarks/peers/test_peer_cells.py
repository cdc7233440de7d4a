"""A peer's cell: which settings it takes, what its keys and digests depend on, how it is named, and what it is never held up as."""

import ast
import dataclasses
import json
import sys

import pytest
from fabricated_records import fabricate
from peer_cells import HSTU, SASREC, SETTINGS

from benchmarks.analysis.beside import ELASTIC, NOT_REACHED, OTHER_MACHINE, beside
from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.frontier import frontier
from benchmarks.analysis.references import contrasted, find_references
from benchmarks.analysis.worth import floors_above
from benchmarks.cell import Cell, check_parts
from benchmarks.compare.judge import timed_cells
from benchmarks.digests import PEER_PROBES, PEER_WORKER, _source, cost_kinds, imported, part_modules, quality_digests
from benchmarks.grids import load_grid
from benchmarks.keys import Catalogue, cell_of_shape, cost_shape, model_key
from benchmarks.labels import Labels
from benchmarks.measures import PEER_COSTS
from benchmarks.peers.part import _RECIPE, _SHAPE, PEERS
from benchmarks.peers.pins import PINS
from benchmarks.records import Record, record_of, to_json
from benchmarks.report.names import MEANINGS, PEER_MARK, family, name_all
from persrec import names

FULL = Cell(backbone="hstu", compression="full", serving="recompute", history=3, recent=2, width=16, layers=1, dataset_size="tiny")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serving": "cache"}, "serving: 'cache' with the peer 'rectools-hstu', which has no such thing; expected 'recompute'"),
        ({"tokens": 2}, "tokens: 2 with the peer"),
        ({"device": "cuda"}, "device: 'cuda' with the peer"),
        ({"warmup_steps": 200}, "warmup_steps: 200 with the peer"),
        ({"decays": True}, "decays: True with the peer"),
        ({"counts": "all"}, "counts: 'all' with the peer"),
        ({"compression": "full"}, "compression: 'full' with the peer 'rectools-hstu'; expected 'peer'"),
        ({"backbone": "hstu"}, "compression: 'peer' with backbone 'hstu'; expected one of the peers rectools-sasrec, rectools-hstu"),
        ({"backbone": "rectools-sasrec"}, "time_bias: True with the peer 'rectools-sasrec'"),
    ],
)
def test_a_peer_refuses_what_it_does_not_have(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(HSTU, **changes)


def test_every_setting_of_a_cell_is_a_peers_own_or_is_fixed() -> None:
    """A setting that is added later must be told to mean something to a peer, or be refused."""
    own = {
        "backbone", "compression", "dataset", "dataset_size", "split", "history", "recent", "layers", "heads", "width", "dropout",
        "time_bias", "learning_rate", "temperature", "negatives", "epochs", "patience", "batch_size", "seed", "threads",
        "protocol",
    }  # fmt: skip
    unused = {"elastic_tokens", "elastic_history"}  # refused with a training that is not elastic
    settings = {field.name for field in dataclasses.fields(Cell)}
    assert own | unused | set(_SHAPE) | set(_RECIPE) == settings
    assert not own & (set(_SHAPE) | set(_RECIPE))


def test_a_peer_draws_negatives() -> None:
    with pytest.raises(ValueError, match="negatives: 0 with the peer 'rectools-hstu', whose losses draw some"):
        dataclasses.replace(HSTU, negatives=0)


def test_a_mistyped_peer_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'rectools-hstu'"):
        check_parts(Cell(backbone="rectool-hstu", compression="full"))
    check_parts(HSTU)


def test_a_peer_that_is_not_declared_can_be_read_of_a_record_and_not_be_run() -> None:
    strange = dataclasses.replace(HSTU, backbone="other-hstu")
    assert Cell.from_dict(strange.to_dict()) == strange
    assert Labels.of([strange])(strange) == "other-hstu · peer"
    with pytest.raises(ValueError, match="peer: unknown 'other-hstu'.*; known: rectools-sasrec, rectools-hstu"):
        check_parts(strange)


def test_of_cost_alone_the_recipe_says_nothing() -> None:
    shape = cell_of_shape(HSTU)
    assert shape.training == "none"
    assert cost_shape(shape, Catalogue(items=9)) == cost_shape(HSTU, Catalogue(items=9))
    assert cost_shape(HSTU, Catalogue(items=9)) != cost_shape(SASREC, Catalogue(items=9))
    assert cost_kinds(HSTU) == PEER_COSTS


def test_its_code_is_the_worker_and_our_ranks_and_none_of_our_models(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = imported([PEER_PROBES["training"], PEER_WORKER])
    assert {"benchmarks.peers.worker", "benchmarks.peers.pins", "persrec.evaluation.ranks", "benchmarks.probes.clock"} <= modules
    assert not {"persrec.training.loop", "persrec.backbones.hstu", "persrec.recommender", "benchmarks.execute"} & modules
    assert quality_digests(HSTU)["training"] != quality_digests(SASREC)["training"]
    assert quality_digests(HSTU)["training"] == quality_digests(dataclasses.replace(HSTU, seed=2))["training"]
    assert model_key(HSTU, dataset_digest="d") != model_key(dataclasses.replace(HSTU, patience=4), dataset_digest="d")


def test_the_fork_server_imports_nothing_of_its_library() -> None:
    assert "benchmarks.peers.worker" not in part_modules(HSTU)


def test_what_the_worker_imports_is_in_its_environment() -> None:
    roots = set()
    for module in imported([PEER_WORKER]):
        for node in ast.walk(ast.parse(_source(module).read_bytes())):  # type: ignore[union-attr]
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots |= {name.partition(".")[0] for name in named}
    assert roots - set(sys.stdlib_module_names) - {"benchmarks", "persrec"} == {
        "numpy", "torch", "scipy", "pandas", "rectools", "pytorch_lightning",
    }  # fmt: skip


def test_labels_say_that_it_is_a_peer_in_full_and_in_short() -> None:
    labels = Labels.of([HSTU, SASREC, FULL])
    assert labels(HSTU) == "RecTools HSTU · peer"
    assert labels.brief(HSTU) == "RecTools HSTU peer"
    assert Labels.of([HSTU]).brief(HSTU) == "RecTools HSTU peer"


def record(
    cell: Cell,
    *,
    validation: tuple[float, ...] = (),
    seconds: float = 10.0,
    fingerprint: str | None = None,
    trained_on: str | None = None,
) -> Record:
    """A fabricated record; with these figures as the curve of its model, each epoch of so many seconds."""
    values = fabricate(cell)
    if validation:
        curve = [{"epoch": n, "loss": 1.0, "validation": figure, "seconds": seconds, "steps": n} for n, figure in enumerate(validation, 1)]
        best = max(validation)
        values["model"] |= {"curve": curve, "best_validation": best, "best_epoch": validation.index(best) + 1, "converged": True}
        values["model"]["machine"] = trained_on
    if fingerprint:
        values["quality"]["environment"]["fingerprint"] = fingerprint
    return record_of(values)


def those(*records: Record) -> list[Configuration]:
    return configurations(records)


def of(backbone: str, among: list[Configuration]) -> Configuration:
    return next(one for one in among if one.cell.backbone == backbone)


def test_names_carry_the_mark_whose_meaning_is_told() -> None:
    among = those(record(HSTU), record(FULL))
    marked = name_all(among)
    assert marked(of("rectools-hstu", among)).endswith(f"peer {PEER_MARK}")
    assert PEER_MARK in marked.brief(of("rectools-hstu", among))
    assert PEER_MARK not in marked(of("hstu", among))
    assert "another library" in MEANINGS[PEER_MARK]


def test_a_report_of_a_record_alone_knows_its_title() -> None:
    """Where the peer is not declared any more, the record says what it is."""
    (one,) = those(record(HSTU))
    assert one.parts.peer == PEERS["rectools-hstu"]
    assert family(one).name == "peer"
    again = record_of(json.loads(to_json(one.records[0])))
    assert again.parts.peer is not None
    assert again.parts.peer.version == PEERS["rectools-hstu"].version


def test_it_is_no_reference_of_ours_and_stands_on_no_frontier_of_ours() -> None:
    floor = Cell(backbone="popularity", compression="none", training="none", dataset_size="tiny")
    among = those(record(HSTU), record(FULL), record(floor))
    peer, ours = of("rectools-hstu", among), of("hstu", among)
    references = find_references(ours, among)
    held = [references.full, references.full_cached, references.full_alike, references.no_token, references.recent, references.counts_only]
    assert peer not in held
    assert find_references(peer, among).full is None
    assert contrasted(among) == [ours]
    for cost in ("request_latency_p50_ms", "cache_bytes"):
        drawn = frontier(among, cost=cost, metric="ndcg@10")
        assert peer not in [standing.configuration for standing in drawn.standings]
        assert [why for one, why in drawn.excluded if one is peer] == ["a peer: the frontier is that of our configurations"]


def test_a_peer_below_a_floor_is_no_model_of_ours_below_it() -> None:
    floor = Cell(backbone="popularity", compression="none", training="none", dataset_size="tiny")
    poor = fabricate(HSTU)
    poor["metrics"]["ndcg@10"] |= {"value": 0.0, "low": 0.0, "high": 0.0}
    among = those(record_of(poor), record(FULL), record(floor))
    assert of("rectools-hstu", among).quality("ndcg@10").value == 0.0
    assert floors_above(among, "ndcg@10") == []


def test_a_comparison_of_checkouts_times_no_peer() -> None:
    assert {cell.backbone for cell in timed_cells([HSTU, FULL]).values()} == {"hstu"}
    with pytest.raises(ValueError, match="nothing to time"):
        timed_cells([HSTU])


def test_our_time_to_its_best_validation_is_that_of_our_first_epoch_at_its_level() -> None:
    among = those(record(HSTU, validation=(0.1, 0.2, 0.15), seconds=10.0), record(FULL, validation=(0.15, 0.19, 0.2, 0.3), seconds=2.0))
    (one,) = beside(among)
    assert (one.peer_seconds, one.our_seconds, one.share) == (20.0, 6.0, 0.3)
    among = those(record(HSTU, validation=(0.1, 0.5)), record(FULL, validation=(0.15, 0.3)))
    assert (beside(among)[0].our_seconds, beside(among)[0].reason) == (None, NOT_REACHED)


def test_seconds_of_two_machines_are_not_held_against_each_other() -> None:
    among = those(record(HSTU, validation=(0.1, 0.2)), record(FULL, validation=(0.1, 0.2), fingerprint="f" * 64))
    (one,) = beside(among)
    assert (one.our_seconds, one.share, one.reason) == (None, None, OTHER_MACHINE)
    trained_elsewhere = record(FULL, validation=(0.1, 0.2), trained_on="f" * 64)  # and evaluated on the peer's
    assert beside(those(record(HSTU, validation=(0.1, 0.2)), trained_elsewhere))[0].reason == OTHER_MACHINE


def test_the_figures_of_an_elastic_model_in_training_are_of_two_lengths_and_stand_beside_no_peers() -> None:
    elastic = dataclasses.replace(FULL, training="elastic", elastic_history=(4, FULL.history))
    (one,) = beside(those(record(HSTU, validation=(0.1, 0.2)), record(elastic, validation=(0.1, 0.2))))
    assert (one.our_seconds, one.share, one.reason) == (None, None, ELASTIC)
    (one,) = beside(those(record(HSTU, validation=(0.1, 0.2)), record(elastic, validation=(0.1, 0.9)), record(FULL, validation=(0.1, 0.2))))
    assert (one.ours.cell.training, one.reason) == (FULL.training, "")  # a model of this length stands before it


@pytest.mark.parametrize("change", [{"history": 4}, {"backbone": "sasrec"}, {"split": "temporal"}, {"compression": "recent"}])
def test_only_full_attention_of_its_counterpart_on_its_data_and_window_stands_beside_it(change: dict[str, object]) -> None:
    other = dataclasses.replace(FULL, **change)
    among = those(record(HSTU, validation=(0.1,)), record(other, validation=(0.2,)))
    assert beside(among)[0].ours is None


def test_the_grid_holds_both_beside_ours_at_the_same_sizes() -> None:
    cells = load_grid("peers", device="cpu").cells
    assert {cell.backbone for cell in cells} == {"sasrec", "hstu", *PEERS}
    shared = ("dataset", "history", "recent", "layers", "heads", "width", "dropout", "negatives", "temperature", "threads", "serving")
    assert len({tuple(getattr(cell, name) for name in shared) for cell in cells}) == 1
    assert all(part.counterpart in names.backbones() for part in PEERS.values())
    assert {cell.compression for cell in load_grid("peers", device="cuda").cells} == {"full"}
    assert SETTINGS["compression"] == names.PEER


def test_pins_name_the_version_that_the_declarations_say() -> None:
    assert {f"{part.package.lower()}=={part.version}" for part in PEERS.values()} <= set(PINS)
    assert all(pin.count("==") == 1 for pin in PINS)
