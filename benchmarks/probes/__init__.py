"""Probes: each takes one kind of number in a pass of its own, so that instruments do not disturb each other."""
