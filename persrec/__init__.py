"""PerSRec: long histories compressed into a few learnable tokens, for any sequence model (arXiv 2601.03479)."""
