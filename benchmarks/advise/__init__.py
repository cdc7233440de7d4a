"""``python -m benchmarks.advise``: which configuration fits a serving budget."""
