"""One process of a timing comparison: ``python -P worker.py`` in a checkout, with that checkout first on the import path.

Every line is JSON and gets one line of JSON in answer. The first is the order. ``{"cell": KEY}`` asks for a cell to be built and
warmed up, and gets the names of its timings, each with the sizes of a turn that suit it here; ``{"cell": KEY, "timing": NAME,
"size": [CALLS, SAMPLES]}`` asks for a moment of one of these; ``{"cell": KEY, "peaks": true}`` asks for the peak memory of each.
Between its turns the process waits, so that another one can time the same at nearly the same time. Code and settings under
measurement are the checkout's; the instruments are this file and others of its own checkout, whichever checkout is measured. So it
asks one thing of a checkout, however old or new: ``benchmarks.execute.untrained_subject(payload)``, and of the subject that this
returns ``cell.batch_size``, ``cell.device``, ``model``, ``request``, ``training_batch``, ``trainer``, ``server``, ``compress`` and
``compresses``. A sample is a bundle of calls, so that a clock's resolution and the loop's own cost are small beside it; a call that
takes long is a sample alone.

Deterministic algorithms stay off, unlike in a cell: loading what they need would take longer than all the measuring.
"""

import contextlib
import gc
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

CALLS = 5  # a sample
PLANTED_CALLS = 6  # a fifth more work in a sample: what a comparison must find
SERVE, COMPRESS, TRAIN = "serve_batch", "compress_batch", "train_batch"
PLANTED = "planted_serve_batch"
SAMPLES = 3  # a turn, behind a call that is not timed: of three, one that was disturbed is outvoted
ALONE_S, ONCE_S = 0.01, 0.1  # a call that takes the first or longer is a sample alone, one that takes the second a turn alone

Timed = Callable[..., list[float]]


def main() -> int:
    """Reads the order and says that it is ready; then measures a cell a line."""
    order = json.loads(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what the measured code prints is no answer
        instrument("isolation/tether").end_with_parent()
        if hasattr(os, "sched_setaffinity"):  # Linux's
            os.sched_setaffinity(0, order["affinity"])
        measure = measurer(order)
        answers.write(json.dumps({"ready": True}) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(measure(json.loads(line)), allow_nan=False) + "\n")
    return 0


def measurer(order: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Loads the checkout's code; what comes back answers a line: a cell's timings, or one's median in seconds a call, or an error."""
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

    gc.freeze()  # what is imported is no garbage: looking through it before each peak would take longer than all timings
    timed: Timed = instrument("probes/clock").timed
    watch_load = instrument("probes/load").LoadWatch
    peak_bytes = instrument("probes/peak").peak_bytes
    built: dict[str, Timings] = {}

    def measure(line: Mapping[str, Any]) -> dict[str, Any]:
        key = line["cell"]
        try:
            if "timing" in line:
                return {"seconds": built[key].median(line["timing"], *line["size"])}
            if "peaks" in line:
                return {"peaks": built[key].peaks(peak_bytes)}
            built.clear()
            with watch_load() as watch:
                subject = untrained_subject({**order["payload"], "cell": order["cells"][key]})
                built[key] = Timings(subject, timed, planted=key in order["planted"])
                built[key].warm_up()
        except Exception as error:  # noqa: BLE001 - what a cell fails with is its finding
            return {"error": f"{type(error).__name__}: {error}"}
        return {"timings": built[key].names, "sizes": built[key].sizes, "readings": watch.readings()}

    return measure


class Timings:
    """What is timed of a cell: serving, compressing and training a batch, and serving with a fifth more work where it is planted."""

    def __init__(self, subject: Any, timed: Timed, *, planted: bool) -> None:
        """Makes the requests and the training batch; nothing is timed yet."""
        import torch  # noqa: PLC0415

        self._subject, self._timed = subject, timed
        size = subject.cell.batch_size
        request, batch, trainer = subject.request(size), subject.training_batch(size), subject.trainer()
        with torch.inference_mode():
            server = subject.server(request)
        self._calls: dict[str, Callable[[], object]] = {SERVE: server}
        if planted:
            self._calls[PLANTED] = server
        if subject.compresses:
            self._calls[COMPRESS] = lambda: subject.compress(request)
        self._calls[TRAIN] = lambda: trainer.step(batch)
        self.sizes = {name: (1 if name == TRAIN else CALLS, SAMPLES) for name in self._calls}  # of a turn: calls of a sample, samples
        self._planted = planted

    @property
    def names(self) -> list[str]:
        """Of the timings."""
        return list(self._calls)

    def warm_up(self) -> None:
        """Makes each call once, and once more to see how large a turn suits it; with a planted slow-down, a sample keeps its calls."""
        for name, (calls, samples) in self.sizes.items():
            seconds = self._times(name, calls=1, samples=1)[0]
            is_alone = seconds >= ALONE_S and not self._planted
            self.sizes[name] = 1 if is_alone else calls, 1 if seconds >= ONCE_S else samples

    def median(self, name: str, calls: int, samples: int) -> float:
        """Seconds a call, by the median of a turn's samples; their number and size are what both sides of a comparison agreed on."""
        made = PLANTED_CALLS if name == PLANTED else calls
        return statistics.median(self._times(name, calls=made, samples=samples)) / calls

    def peaks(self, peak_bytes: Callable[[Callable[[], object], str], int]) -> dict[str, int]:
        """Peak bytes of each call above what is resident; none where this system does not measure them."""
        peaks = {}
        for name in self._calls:
            if name != PLANTED:
                with contextlib.suppress(OSError), self._mode(name):
                    peaks[name] = peak_bytes(self._calls[name], self._subject.cell.device)
        return peaks

    def _times(self, name: str, *, calls: int, samples: int) -> list[float]:
        """Seconds of bundles of calls, behind a call that is not timed."""
        call = self._calls[name]

        def bundle() -> None:
            for _ in range(calls):
                call()

        with self._mode(name):
            call()
            return self._timed(bundle, device=self._subject.cell.device, count=samples)

    @contextlib.contextmanager
    def _mode(self, name: str) -> Iterator[None]:
        """The model as this call finds it: in training, or without gradients."""
        import torch  # noqa: PLC0415

        trains = name == TRAIN
        self._subject.model.train(trains)
        with torch.inference_mode(mode=not trains):
            yield


def instrument(name: str) -> ModuleType:
    """A module of this file's own ``benchmarks/``, loaded by its path, whatever checkout is measured."""
    path = Path(__file__).resolve().parent.parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"instrument_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
