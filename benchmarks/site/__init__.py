"""``python -m benchmarks.site``: all runs of a folder as a static site."""
