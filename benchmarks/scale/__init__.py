"""The command that measures the preparation of a large log: time and peak memory, by engine."""
