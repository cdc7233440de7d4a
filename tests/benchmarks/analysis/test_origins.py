import pytest
from fabricated_records import fabricate, records_of

from benchmarks.analysis.origins import older_code, sources, timings
from benchmarks.cell import Cell


def cell(**settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": "experts", "tokens": 4} | settings))  # type: ignore[arg-type]


def test_seeds_have_a_quality_each_and_share_their_cost():
    every = sources(records_of(*(fabricate(cell(seed=seed)) for seed in (1, 2))))
    assert [(source.half, len(source.cells)) for source in every] == [("quality", 1), ("quality", 1), ("cost", 2)]


def test_a_machine_tells_where_something_was_timed_on_it():
    timed, counted = fabricate(cell()), fabricate(cell(tokens=8))
    counted["metrics"] = {name: one for name, one in counted["metrics"].items() if name in ("serve_flops", "serve_peak_bytes", "ndcg@10")}
    counted["metrics"]["serve_latency_p50_ms"] = {"value": None, "method": "timed on another machine alone"}
    assert [source.cells[0].cell.tokens for source in timings(sources(records_of(timed, counted)))] == [4]


def test_a_cell_that_ended_before_anything_was_measured_still_has_a_machine():
    (source,) = sources(records_of(fabricate(cell(), status="crash", quality=None, cost=None)))
    assert (source.half, source.origin.environment.python) == ("quality", "3.11.9")


def test_older_code_is_told_by_half_and_kind():
    old, new = fabricate(cell()), fabricate(cell(tokens=8))
    for half, kind in (("quality", "evaluation"), ("cost", "latency")):
        old[half] |= {
            "code": old[half]["code"] | {kind: f"older {kind}"},
            "provenance": old[half]["provenance"] | {"commit": f"older {kind} of it"},
        }
        new[half] |= {"provenance": new[half]["provenance"] | {"utc": "2026-04-01T00:00:00Z"}}
    found = older_code(sources(records_of(old, new)))
    assert [(code.half, code.kinds, code.older, code.stale, code.total) for code in found] == [
        ("quality", ("evaluation",), ("older evalua",), 1, 2),
        ("cost", ("latency",), ("older latenc",), 1, 2),
    ]
    assert [record.cell.tokens for code in found for record in code.cells] == [4, 4]


def test_kinds_whose_code_changed_together_are_told_together():
    old, new = fabricate(cell(), code="a" * 64), fabricate(cell(tokens=8))
    for half in ("quality", "cost"):
        new[half] |= {"provenance": new[half]["provenance"] | {"utc": "2026-04-01T00:00:00Z"}}
    found = older_code(sources(records_of(old, new)))
    assert [(code.half, code.kinds) for code in found] == [("quality", ("evaluation", "training")), ("cost", ("flops", "latency"))]


def test_kinds_of_other_digests_that_are_old_in_the_same_cells_are_one_note():
    old, new = fabricate(cell()), fabricate(cell(tokens=8))
    old["cost"]["code"] = {kind: f"older {kind}" for kind in old["cost"]["code"]}
    new["cost"] |= {"provenance": new["cost"]["provenance"] | {"utc": "2026-04-01T00:00:00Z"}}
    [found] = older_code(sources(records_of(old, new)))
    assert (found.half, found.kinds, found.stale, found.total) == ("cost", ("flops", "latency"), 1, 2)


def test_one_code_is_no_mixture():
    assert older_code(sources(records_of(fabricate(cell()), fabricate(cell(tokens=8))))) == []


FLOOR = {"backbone": "popularity", "compression": "none", "training": "none", "tokens": 0}


@pytest.mark.parametrize(
    "other",
    [FLOOR, {"backbone": "sasrec"}, {"compression": "pooling"}, {"dataset": "ml-1m"}, {"control": True}, {"distillation": 1.0}],
    ids=["floor", "backbone", "compression", "dataset", "control", "teacher"],
)
def test_other_parts_have_other_digests_by_nature_and_the_same_parts_do_not(other):
    mine, theirs = fabricate(cell(), code="a" * 64), fabricate(cell(**other), code="b" * 64)
    assert older_code(sources(records_of(mine, theirs))) == []
    newer = fabricate(cell(**other, seed=2), code="c" * 64)
    for half in ("quality", "cost"):
        newest = {"utc": "2026-04-01T00:00:00Z", "commit": "c" * 40}
        newer[half] = newer[half] and newer[half] | {"provenance": newer[half]["provenance"] | newest}
        theirs[half] = theirs[half] and theirs[half] | {"provenance": theirs[half]["provenance"] | {"commit": "b" * 40}}
    mixed = older_code(sources(records_of(mine, theirs, newer)))
    halves = ["quality"] if other is FLOOR else ["quality", "cost"]
    assert [(code.half, code.older, code.newest, code.stale) for code in mixed] == [(half, ("b" * 12,), "c" * 12, 1) for half in halves]
    assert {record.cell for code in mixed for record in code.cells} == {cell(**other)}
