"""``benchmarks.run`` with stand-ins for training and measuring, for tests that need a process of their own."""

import sys
from collections.abc import Iterable
from dataclasses import asdict

from benchmarks import digests
from benchmarks.cell import Cell
from benchmarks.run import command as run
from benchmarks.run import slurm
from benchmarks.run.jobs import Work

FAKE = Work(train="fake_work:train", quality="fake_work:quality", cost="fake_work:cost", preload=())


class WithoutParts(Work):
    """The fork server of the run imports no part of a cell: that is torch, and stand-ins need none."""

    def modules(self, cells: Iterable[Cell]) -> list[str]:  # noqa: ARG002 - it asks no cell for its parts
        return super().modules(())


if __name__ == "__main__":
    # an edit between two runs of one test is not what the test is about
    digests.code_digests = lambda cell, kinds: dict.fromkeys(kinds, "c0de" * 16)
    slurm.LOOK_S = slurm.GRACE_S = 2.0  # the Slurm of a test has little to answer
    sys.exit(run.main(work=WithoutParts(**asdict(FAKE))))
