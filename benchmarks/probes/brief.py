"""Timings of a grid that asks whether things run and what they count: a few calls of each, as nothing rests on how long they took.

No probe imports this: how often a call is repeated is no other way to take its time, and ages no record.
"""

from benchmarks.probes import control, latency, request, throughput, training_cost

CALLS = 5


def time_briefly() -> None:
    """From here on this process times `CALLS` calls of each kind, and no more; for one that takes a cost and ends."""
    for probe in (control, latency, request, throughput, training_cost):
        for name, value in (("SECONDS", 0.0), ("LEAST", CALLS)):
            setattr(probe, name, value)
