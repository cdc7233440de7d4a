"""Attention, positions and the key-value cache."""
