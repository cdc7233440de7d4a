"""The command that fills the records of one GPU in a few minutes."""
