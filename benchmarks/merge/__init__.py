"""``python -m benchmarks.merge``: the records of several machines as one run."""
