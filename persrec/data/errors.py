"""What is wrong with data. Each error is one line that names the file or the column, what came and what was expected."""


class SourceError(ValueError):
    """A file or folder of a dataset, or of prepared data, is missing, cannot be read or written, or holds something else."""


class NoMatchError(ValueError):
    """A table of texts or categories has nothing for any of the items."""
