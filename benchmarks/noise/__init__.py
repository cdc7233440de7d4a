"""The command that measures false alarms and power of `compare` and `gate`."""
