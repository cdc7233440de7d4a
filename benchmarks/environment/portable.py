"""Keeps the folders of one machine out of records: command lines and messages without absolute paths."""

import contextlib
import os
import re
import shlex
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
DATA, CACHE, TEMPORARY, HOME = "$PERSREC_DATA", "$PERSREC_CACHE", "$TMPDIR", "~"
_VARIABLES = {"--data-dir": DATA, "--cache-dir": CACHE}


def portable_argv(argv: Sequence[str]) -> list[str]:
    """A command line as records keep it.

    A relative path stays as it was given. An absolute one becomes ``$PERSREC_DATA`` after ``--data-dir``, ``$PERSREC_CACHE`` after
    ``--cache-dir``, and elsewhere its last name; also in ``--option=value``, and where an option was shortened as argparse allows.
    """
    portable: list[str] = []
    previous_word = ""
    for word in argv:
        option, equals, value = word.partition("=")
        if option.startswith("--") and equals:
            portable.append(f"{option}={_portable(value, option)}")
        else:
            portable.append(_portable(word, previous_word))
        previous_word = word
    return portable


def shell_line(words: Sequence[str]) -> str:
    """Such words as one line of a shell, which puts the data folders of its own machine in the place of their variables."""
    return " ".join(f'"{word}"' if word in (DATA, CACHE) else shlex.quote(word) for word in words)


def without_paths(
    text: str,
    *,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    dataset_file: Path | str | None = None,
) -> str:
    """A message or a log with the folders that are known here replaced by names that mean the same on another machine.

    Args:
        text: the message.
        out: the run's folder; its name takes its place.
        data_dir: where publishers' folders lie, ``$PERSREC_DATA`` by default.
        cache_dir: where prepared data lie, ``$PERSREC_CACHE`` by default.
        dataset_file: the user's own dataset file.
    """
    names: dict[str, str] = {}
    for folder, name in _folders(out, data_dir, cache_dir, dataset_file):
        for spelling in (str(Path(folder).absolute()), str(Path(folder).resolve())):
            if spelling != "/":
                names.setdefault(spelling, name)
    alternatives = "|".join(re.escape(folder) for folder in sorted(names, key=len, reverse=True))
    # longest first; the folder or what lies in it, and not another whose name only starts alike: of /data/a, "/data/a/b" and not "/data/ab"
    pattern = re.compile(rf"(?<![\w.-])({alternatives})(/|(?![\w-]|\.\w))")
    return pattern.sub(lambda match: names[match[1]] + match[2] if names[match[1]] else "" if match[2] else ".", text)


def _portable(value: str, option: str) -> str:
    if not value.startswith("/"):
        return value
    variables = [variable for name, variable in _VARIABLES.items() if len(option) > 2 and name.startswith(option)]
    return variables[0] if len(variables) == 1 else Path(value).name or value


def _folders(
    out: Path | str | None, data_dir: Path | str | None, cache_dir: Path | str | None, dataset_file: Path | str | None
) -> Iterator[tuple[Path | str, str]]:
    """The folders that a message may hold, each with its name; the first name of a folder counts."""
    for folder, variable in ((data_dir, DATA), (cache_dir, CACHE)):
        place = folder or os.environ.get(variable.removeprefix("$"))
        if place:
            yield place, variable if Path(place).is_absolute() else str(place)
    if out is not None:
        yield out, Path(out).name if Path(out).is_absolute() else str(out)
    yield PROJECT, ""
    for name in ("purelib", "platlib", "stdlib", "platstdlib"):
        folder = sysconfig.get_path(name)
        yield folder, Path(folder).name
    yield Path(sys.executable).parent, Path(sys.executable).parent.name
    yield tempfile.gettempdir(), TEMPORARY
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path("~").expanduser(), HOME
    if dataset_file is not None:
        yield Path(dataset_file).absolute().parent, ""
