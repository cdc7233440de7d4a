"""Without the calls and files that are Linux's alone, a run does with what there is; what cannot be told is null with a reason."""

import json
import subprocess
import sys
from pathlib import Path

from test_isolation import surroundings

OTHER = Path(__file__).parent / "other_system.py"


def on_other_system(code: str, folder: Path) -> str:
    command = [sys.executable, str(OTHER), code]
    done = subprocess.run(command, cwd=folder, env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_grid_is_listed(tmp_path: Path) -> None:
    out = on_other_system("from benchmarks.run.command import main\nsys.exit(main(['--grid', 'smoke', '--list']))", tmp_path)
    assert "cells" in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


FACTS = """
import json
from benchmarks import environment as env
from benchmarks.probes.load import LoadWatch
with LoadWatch() as watch:
    pass
facts = env.environment(device="cpu", threads=1, affinity=env.processors(0, 1))
print(json.dumps([facts, watch.readings()]))
"""


def test_the_machine_is_described_by_what_it_tells(tmp_path: Path) -> None:
    facts, load = json.loads(on_other_system(FACTS, tmp_path))
    assert facts["affinity"] == [0]
    assert facts["fingerprint"]
    assert facts["memory_bytes"] is None
    assert facts["readings"]["cpu_mhz"] is None
    assert load["foreign_cpu_share"] is None


MEMORY = """
from types import SimpleNamespace
from benchmarks.probes.memory import peak
subject = SimpleNamespace(cell=SimpleNamespace(device="cpu", batch_size=1))
print(peak(lambda: None, subject)["method"])
"""


def test_peak_memory_is_null_with_a_reason(tmp_path: Path) -> None:
    assert on_other_system(MEMORY, tmp_path) == "this system does not tell: the C library has no malloc_trim\n"


ISOLATED = """
from pathlib import Path
from benchmarks.isolation import Job, _apply_limits, _kernel_oom_kills
from benchmarks.isolation.tether import end_with_parent
end_with_parent()
_apply_limits(Job(function="odd_jobs:wait", payload={}, log_path=Path("log"), affinity=(0,)))
print(_kernel_oom_kills())
"""


def test_a_process_is_set_up_without_them(tmp_path: Path) -> None:
    assert on_other_system(ISOLATED, tmp_path) == "0\n"
