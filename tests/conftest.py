"""Being here puts this folder on the import path: `small_models` serves several folders of tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.environment import cuda_device_count

if cuda_device_count()[0] == 0:  # without a GPU Triton's kernels are interpreted; Triton reads this when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

# a deadline, or a limit on how long drawing takes, would test how busy the machine is; with new draws in every run a law that holds up to
# float32 would fail once in a while (`python -m tests.contracts.thousand_plans` and `--hypothesis-profile default` draw anew)
settings.register_profile("laws", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")


def pytest_configure(config: pytest.Config) -> None:
    # fvcore compiles a loss that nobody here uses, when it is imported, in a way that torch has deprecated
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture
def one_thread():
    """These tensors are too small to share out: on a busy machine two threads wait for each other for seconds."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
