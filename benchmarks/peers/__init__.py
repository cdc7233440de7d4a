"""Peers as cells: their environment, what is exchanged with it, and their numbers by our split, rank code and clock."""
