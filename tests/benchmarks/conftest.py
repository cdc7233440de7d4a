"""What tests that train and measure in their own process need; torch is imported by those alone."""

import gc

import pytest


@pytest.fixture(scope="module")
def small_heap():
    """The memory probe collects garbage; what the tests before have left would take it longer than all else."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def browser():
    import browsers

    with browsers.started() as started:
        yield started


@pytest.fixture
def tiny_log(monkeypatch):
    from tiny_cells import LOG

    from benchmarks import execute

    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: LOG)


@pytest.fixture
def short_timings(monkeypatch):
    from benchmarks.probes import control, latency, products, request, throughput, training_cost

    for probe in (throughput, latency, request, control, training_cost):
        monkeypatch.setattr(probe, "SECONDS", 0.0)
        monkeypatch.setattr(probe, "LEAST", 3)
    monkeypatch.setitem(products.PEAK_SIZE, "cpu", 64)


@pytest.fixture
def global_settings_as_before():
    """A cell has a process of its own and sets these for good."""
    import torch

    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.fixture
def measuring(one_thread, tiny_log, short_timings, small_heap, global_settings_as_before):
    """Everything that measuring a tiny cell here needs."""


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    """Where the models of the tiny cells go."""
    from tiny_cells import CELLS

    return {name: tmp_path_factory.mktemp("models") / "key" for name in CELLS}


@pytest.fixture(scope="module")
def answers():
    return {}


@pytest.fixture
def answer_of(answers, model_dirs):
    """A tiny cell's answer and phases; each is trained and measured once for all tests of a file."""
    from tiny_cells import CELLS, measured

    def get(name):
        if name not in answers:
            answers[name] = measured(CELLS[name], model_dirs[name])
        return answers[name]

    return get
