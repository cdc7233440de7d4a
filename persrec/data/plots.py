"""Three plots of a log: how long users' histories are, how events fall on items, and when they were."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from persrec.data.interactions import UNKNOWN_TIME, InteractionLog
from persrec.files import atomic

BINS = 40


def plot(log: InteractionLog, path: Path) -> None:
    """Draws the plots side by side into a file, whose ending says the format.

    Raises:
        ValueError: the ending is of no format that can be drawn.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    file_format = path.suffix.removeprefix(".")
    if file_format not in formats:
        raise ValueError(f"plot: {path}; expected an ending of {', '.join(sorted(formats))}")
    lengths, popularity, times = figure.subplots(1, 3)
    lengths.hist(log.lengths, bins=np.geomspace(1, log.lengths.max() + 1, BINS))
    lengths.set(xscale="log", xlabel="events of a user", ylabel="users", title=f"{log.num_users:,} users")
    counts = np.sort(np.bincount(log.items, minlength=log.num_items)[1:])[::-1]
    popularity.plot(np.arange(1, len(counts) + 1), np.cumsum(counts) / len(log))
    popularity.set(xscale="log", xlabel="items, the most popular first", ylabel="share of all events", title=f"{len(counts):,} items")
    known_times = np.asarray(log.times[log.times != UNKNOWN_TIME])
    if len(known_times):
        times.hist(known_times.astype("datetime64[s]").astype("datetime64[D]"), bins=BINS)
        times.tick_params(axis="x", labelrotation=30)
    times.set(xlabel="day", ylabel="events", title=f"{len(log):,} events")
    with mpl.rc_context({"svg.hashsalt": "persrec"}), atomic(path) as file:
        figure.savefig(file, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
