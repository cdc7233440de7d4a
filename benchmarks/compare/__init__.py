"""The command that times two checkouts, interleaved."""
