"""One process of a timing comparison: ``python -P timing.py`` in a checkout, with that checkout first on the import path.

The first line of the standard input is the order, in JSON; each further line is the key of a cell to measure now, and gets
one line of JSON in answer. Between its turns the process waits, so that another one can measure the same cell at nearly the
same time; a cell asked for again is not built again. Code and settings under measurement are the checkout's; the instruments
are this file and the two probes beside it, whichever checkout is measured. So it asks one thing of a checkout:
``benchmarks.execute.untrained_subject``. A sample is a bundle of calls, so that a clock's resolution and the loop's own cost
are small beside it.

Deterministic algorithms stay off, unlike in a cell: loading what they need would take longer than all the measuring.
"""

import ctypes
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

CALLS = 5  # a sample
PLANTED_CALLS = 6  # a fifth more work in a sample: what a comparison must find
SERVE, COMPRESS, TRAIN = "serve_batch", "compress_batch", "train_batch"
PLANTED = "planted_serve_batch"
SECONDS, LEAST = 0.01, 3  # a turn

Repeat = Callable[..., Any]


def main() -> int:
    """Reads the order and says that it is ready; then measures a cell a line."""
    order = json.loads(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what the measured code prints is no answer
        _end_with_parent()
        os.sched_setaffinity(0, order["affinity"])
        measure = measurer(order)
        answers.write(json.dumps({"ready": True}) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(measure(line.strip()), allow_nan=False) + "\n")
    return 0


def measurer(order: Mapping[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Loads the checkout's code; what comes back measures one cell: medians in seconds a call, or why there are none."""
    import torch  # noqa: PLC0415 - after the processors are set

    torch.set_num_threads(order["threads"])
    torch.optim.AdamW([torch.zeros(1)])  # what the first optimiser imports takes a second
    import benchmarks  # noqa: PLC0415
    import persrec  # noqa: PLC0415

    root = Path(order["root"]).resolve()
    for package in (benchmarks, persrec):
        if not Path(str(package.__file__)).resolve().is_relative_to(root):
            raise ImportError(f"{package.__name__} was imported from {package.__file__}, expected from under {root}")
    from benchmarks.execute import untrained_subject  # noqa: PLC0415

    repeat: Repeat = instrument("clock").repeat
    watch_load = instrument("load").LoadWatch

    built: dict[str, Any] = {}

    def measure(key: str) -> dict[str, Any]:
        try:
            if key not in built:
                built.clear()
                built[key] = untrained_subject({**order["payload"], "cell": order["cells"][key]})
            subject = built[key]
            with watch_load() as watch:
                medians = measure_subject(subject, repeat, planted=key in order["planted"])
        except Exception as error:  # noqa: BLE001 - what a cell fails with is its finding
            return {"error": f"{type(error).__name__}: {error}"}
        return {"medians": medians, "readings": watch.readings()}

    return measure


def measure_subject(subject: Any, repeat: Repeat, *, planted: bool) -> dict[str, float]:
    """Median seconds of serving, compressing and training a batch, and of serving with a fifth more work where it is planted."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    def median(call: Callable[[], object], *, calls: int, of: int) -> float:
        def bundle() -> None:
            for _ in range(calls):
                call()

        return float(np.median(repeat(bundle, device=subject.cell.device, seconds=SECONDS, least=LEAST))) / of

    size = subject.cell.batch_size
    request = subject.request(size)
    found: dict[str, float] = {}
    subject.model.eval()
    with torch.inference_mode():
        server = subject.server(request)
        found[SERVE] = median(server, calls=CALLS, of=CALLS)
        if planted:
            found[PLANTED] = median(server, calls=PLANTED_CALLS, of=CALLS)
        if subject.compresses:
            found[COMPRESS] = median(lambda: subject.compress(request), calls=CALLS, of=CALLS)
    trainer, batch = subject.trainer(), subject.training_batch(size)
    subject.model.train()
    found[TRAIN] = median(lambda: trainer.step(batch), calls=1, of=1)
    return found


def instrument(name: str) -> ModuleType:
    """A probe that lies beside this file, whatever checkout is measured."""
    path = Path(__file__).resolve().parent / "probes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"instrument_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _end_with_parent() -> None:
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
