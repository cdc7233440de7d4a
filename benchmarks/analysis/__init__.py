"""Numbers from records: configurations, estimates, references, frontier, amortised cost. No plotting, no torch."""
