"""The tables of a report, a file per subject; none draws."""
