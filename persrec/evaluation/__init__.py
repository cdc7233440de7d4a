"""Evaluation: ranks over the whole catalogue, metrics with intervals, and the floors that need no training."""
