"""The law that ``kills.py`` holds a whole grid to, on two cells that train for a while."""

import time

import kills

GRID = """
[defaults]
history = 12
recent = 4
width = 8
layers = 1
negatives = 32
batch_size = 256
epochs = 16  # so many that the run still trains when the test comes to look
patience = 16
dropout = 0.2
dataset_size = "tiny"
[[sweep]]
backbone = "sasrec"
compression = "experts"
tokens = [0, 2]
training = "elastic"
elastic_tokens = [0, 2]
"""


def test_a_run_killed_while_it_trains_gives_the_model_and_the_records_of_an_unbroken_one(tmp_path):
    grid = tmp_path / "two.toml"
    grid.write_text(GRID)
    kills.run_to_end(tmp_path / "unbroken", grid=str(grid), select="")
    out = tmp_path / "killed"
    running = kills.start(out, grid=str(grid), select="")
    try:
        wait_for(running, out, "models/*/state.safetensors")
    finally:
        kills.kill(running, out)
    kills.run_to_end(out, grid=str(grid), select="")
    found, expected = kills.outcome(out / "run"), kills.outcome(tmp_path / "unbroken" / "run")
    assert len(expected) == 3
    kills.check_same(found, expected, out)
    assert kills.resumes(out / "run") == 1


def wait_for(running, out, pattern, *, within=600.0):
    end = time.monotonic() + within
    while not any((out / "run").glob(pattern)):
        assert time.monotonic() < end, "waited in vain"
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
