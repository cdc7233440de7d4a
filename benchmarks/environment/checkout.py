"""Which commit of this project a number was made by, and what differed from it. Never a guess and never an error: null, and why."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

NOT_CODE = (":(exclude)results", ":(exclude)reports")
BLOCK = 2**20
POINTERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_NAMESPACE")


class _GitError(Exception):
    """Git gave no answer; the message is one line and names no folder."""


def repository_state(root: Path) -> dict[str, Any]:
    """The commit of a checkout and the digest of what differs from it, new files too; ``dirty`` is null for a clean tree.

    What git knows counts only where its top level is ``root`` itself: a program that is installed inside another repository has
    no commit of that one.

    Returns:
        ``commit`` and ``dirty``; and ``commit_reason`` or ``dirty_reason`` where one of them could not be told.
    """
    try:
        commit = _commit(root)
    except _GitError as error:
        return {"commit": None, "commit_reason": str(error), "dirty": None, "dirty_reason": "there is no commit to differ from"}
    try:
        return {"commit": commit, "dirty": _uncommitted_digest(root)}
    except (_GitError, OSError) as error:
        reason = str(error) if isinstance(error, _GitError) else f"a changed file cannot be read: {error.strerror or error}"
        return {"commit": commit, "dirty": None, "dirty_reason": reason}


def _commit(root: Path) -> str:
    top_level = _git(root, "rev-parse", "--show-toplevel").removesuffix("\n")
    if Path(top_level).resolve() != root.resolve():
        raise _GitError("the program is no checkout of its own: it lies inside another git repository")
    return _git(root, "rev-parse", "--verify", "HEAD").strip()


def _uncommitted_digest(root: Path) -> str | None:
    """SHA-256 of what differs from the commit; ``None`` for a clean tree. What runs write does not count."""
    changes = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--", ".", *NOT_CODE)
    new_files = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *NOT_CODE).split("\0")
    if not changes and not any(new_files):
        return None
    hasher = hashlib.sha256(changes.encode(errors="surrogateescape"))
    for name in sorted(filter(None, new_files)):
        path = root / name
        hasher.update(name.encode(errors="surrogateescape"))
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    hasher.update(block)
    return hasher.hexdigest()


def _git(root: Path, *arguments: str) -> str:
    """What git prints of the repository around ``root``, also where a hook of another one runs us with variables that point there."""
    surroundings = {name: value for name, value in os.environ.items() if name not in POINTERS} | {"LC_ALL": "C"}
    command = ["git", "-C", str(root), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, check=True, timeout=30, env=surroundings)
    except FileNotFoundError as error:
        raise _GitError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").replace(str(root), ".").strip().splitlines()
        raise _GitError(f"git {arguments[0]}: {lines[0] if lines else f'exit code {error.returncode}'}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise _GitError(f"git {arguments[0]}: {type(error).__name__}") from error
    return process.stdout.decode(errors="surrogateescape")
