"""``benchmarks.run`` with stand-ins for training and measuring, for tests that need a process of their own."""

import sys

from benchmarks.run import command as run
from benchmarks.run.sweep import Work

FAKE = Work(train="fake_work:train", measure="fake_work:measure", preload=())

if __name__ == "__main__":
    run.code_digest = lambda: "c0de" * 16  # an edit between two runs of one test is not what the test is about
    sys.exit(run.main(work=FAKE))
