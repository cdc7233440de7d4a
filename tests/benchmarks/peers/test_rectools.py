"""RecTools itself, where its environment is there: it trains on our split, and its own recommendations are those of the vectors we rank."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from peer_cells import HSTU, SASREC
from tiny_cells import LOG

from benchmarks.cell import Cell
from benchmarks.peers.cost import measure_peer_cost
from benchmarks.peers.environment import PeerEnvironmentError, interpreter, surroundings
from benchmarks.peers.process import _our_code
from benchmarks.peers.training import exchanged_arrays, peer_task, train_peer
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out
from persrec.evaluation.metrics import metric_values
from persrec.evaluation.ranks import target_ranks


def environment_is_there() -> str:
    try:
        interpreter(None)
    except PeerEnvironmentError as error:
        return str(error)
    return ""


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(environment_is_there()), reason=environment_is_there())]
CELLS = [dataclasses.replace(cell, history=12, recent=4, epochs=2) for cell in (SASREC, HSTU)]
DATA = leave_one_out(dataclasses.replace(LOG, protocol=Protocol(seen_items="excluded")))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.backbone)
def test_its_validation_figure_is_that_of_our_rank_code_on_its_vectors(cell: Cell, tmp_path: Path) -> None:
    vectors, facts = train_peer(cell, DATA, tmp_path / "model", cache_dir=None, report=lambda said: None)
    ranks = target_ranks(vectors.validation, vectors.items, DATA.targets("validation"), DATA.seen("validation"))
    assert np.mean(metric_values(ranks)["ndcg@10"]) == facts["best_validation"]
    assert len(facts["curve"]) == 2
    assert len(vectors.test) == len(DATA.test)
    assert torch.allclose(vectors.test[:, :-1].norm(dim=1), torch.ones(len(DATA.test)), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.backbone)
def test_its_own_recommendations_are_those_of_its_vectors(cell: Cell, tmp_path: Path) -> None:
    peer_task(cell, DATA.num_items, "train").write(tmp_path, exchanged_arrays(DATA))
    script = Path(__file__).with_name("recommends.py")
    variables = surroundings() | {"PYTHONPATH": str(_our_code(tmp_path)), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [str(interpreter(None)), str(script), str(tmp_path)], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == 1.0


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.backbone)
def test_its_requests_are_timed_with_the_whole_catalogue(cell: Cell) -> None:
    metrics, _ = measure_peer_cost(dataclasses.replace(cell, batch_size=2), 3001, cache_dir=None)
    parameters = metrics["flops"]["parameters"]["value"]
    assert parameters > 3001 * cell.width
    assert parameters < 3001 * cell.width + 8 * cell.layers * cell.width**2 + 40 * cell.width + 400
    assert metrics["request"]["request_latency_p50_ms"]["value"] > 0
