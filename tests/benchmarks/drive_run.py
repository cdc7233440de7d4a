"""``benchmarks.run`` with stand-ins for training and measuring, for tests that need a process of their own."""

import sys

from benchmarks import digests
from benchmarks.run import command as run
from benchmarks.run.jobs import Work

FAKE = Work(train="fake_work:train", quality="fake_work:quality", cost="fake_work:cost", preload=())

if __name__ == "__main__":
    # an edit between two runs of one test is not what the test is about
    digests.code_digests = lambda cell, kinds: dict.fromkeys(kinds, "c0de" * 16)
    sys.exit(run.main(work=FAKE))
