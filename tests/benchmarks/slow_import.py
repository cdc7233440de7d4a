"""A module that takes long to import, as torch on a busy machine."""

import os
import time
from pathlib import Path

_told = Path(os.environ["PERSREC_TEST_IMPORTING"])
_told.with_suffix(".part").write_text(str(os.getpid()))
_told.with_suffix(".part").rename(_told)
time.sleep(900)
