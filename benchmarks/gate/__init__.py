"""The command that compares a run with a reviewed baseline."""
