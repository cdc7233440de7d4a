"""Stands in for RecTools: models that learn nothing and know which item follows, well in epoch 2 and badly in every other."""

__version__ = "0.0.fake"
