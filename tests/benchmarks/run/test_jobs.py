"""What the processes of a sweep are told, and what the fork server has at hand for them."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.cell import Cell
from benchmarks.grids import Limits
from benchmarks.run.jobs import CostOf, Work, job
from persrec.data import load_dataset

# torch takes seconds to import, and reads no data
READING = """
import importlib, sys
from benchmarks.run.jobs import Work
from persrec.data import load_dataset
for name in Work().preload:
    if name.partition(".")[0] != "torch":
        importlib.import_module(name)
before = set(sys.modules)
load_dataset("synthetic", size="tiny", cache_dir=sys.argv[1])
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_a_process_that_reads_prepared_data_imports_nothing_large(tmp_path: Path) -> None:
    load_dataset("synthetic", size="tiny", cache_dir=str(tmp_path))
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", READING, str(tmp_path)], env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, set(done.stdout.split()) & {"pandas", "pyarrow", "scipy", "torch"}) == (0, set()), done.stderr


@pytest.mark.parametrize("alone", [True, False])
def test_a_process_is_told_whether_its_cost_was_planned_brief(tmp_path: Path, alone: bool) -> None:
    planned = SimpleNamespace(key="k", cell=Cell(backbone="hstu", compression="full"), dataset_digest="d", briefly=not alone)
    settings = SimpleNamespace(work=Work(), out=tmp_path, limits=Limits(), data_dir=None, cache_dir=None, dataset_file=None)
    assert job(CostOf(planned=planned, kinds=()), settings, affinity=(), attempt=1).payload["briefly"] is not alone
