"""What makes a number old: a digest of the code behind each kind of number.

A digest is taken over the modules that the kind's probe imports, directly or not, and over those of the cell's own parts. It
reads the code as Python does: comments, docstrings and formatting do not count. So a change elsewhere leaves records as they
are, and another compression ages no other compression's numbers.

Three things are left out since something else speaks for them: a cell's settings (they are in its key), the measures (their
versions are), and the declarations of parts (those of the cell's own parts are hashed as values, without their looks).
"""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.measures import COST_KINDS, PEER_COSTS, Kind
from benchmarks.peers.part import PEERS, PeerPart
from persrec import names

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("persrec", "benchmarks")
PROBES: dict[Kind, str] = {
    "training": "benchmarks.probes.training",
    "evaluation": "benchmarks.probes.quality",
    "flops": "benchmarks.probes.flops",
    "memory": "benchmarks.probes.memory",
    "throughput": "benchmarks.probes.throughput",
    "latency": "benchmarks.probes.latency",
    "request": "benchmarks.probes.request",
    "control": "benchmarks.probes.control",
    "training_cost": "benchmarks.probes.training_cost",
}
MODELS = "benchmarks.probes.models"
SEVERAL = "benchmarks.probes.several"  # trains a model on several processes
CEILING = "persrec.data.ceiling"  # says what can be had of data that are made
PEER_PROBES: dict[Kind, str] = {
    "training": "benchmarks.peers.training",
    "evaluation": "benchmarks.peers.quality",
    **dict.fromkeys(PEER_COSTS, "benchmarks.peers.cost"),
}
PEER_WORKER = "benchmarks.peers.worker"  # runs in the peers' interpreter, so that nothing here imports it
BESIDE_CONTROL: frozenset[Kind] = frozenset({"control", "training_cost"})  # the kinds that full attention's code makes, too
TAUGHT: frozenset[Kind] = frozenset({"training", "training_cost"})  # and the kinds that it makes as a teacher
LEFT_OUT = frozenset({
    "persrec.names", "persrec.declarations", "persrec.files", "persrec.commandline", "benchmarks.cell", "benchmarks.settings",
    "benchmarks.peers.part", "benchmarks.measures",
})  # fmt: skip


def code_digests(cell: Cell, kinds: Iterable[Kind]) -> dict[str, str]:
    """The digest of each kind of number of a cell."""
    several = cell.world_size > 1
    return {kind: _digest(kind, _parts(cell, kind), on_several=several and kind == "training") for kind in kinds}


def part_modules(cell: Cell) -> list[str]:
    """The modules of a cell's own parts."""
    kinds: tuple[Kind, ...] = ("evaluation", "control")
    return list(dict.fromkeys(module for kind in kinds for part in _parts(cell, kind) for module in _modules_of(part)))


def quality_digests(cell: Cell) -> dict[str, str]:
    """The digests behind a cell's quality: of its training, where it has one, and of its evaluation."""
    return code_digests(cell, ("evaluation",) if cell.is_floor else ("training", "evaluation"))


def cost_kinds(cell: Cell) -> tuple[Kind, ...]:
    """The kinds of cost that a cell has."""
    kinds = PEER_COSTS if cell.is_peer else COST_KINDS
    return tuple(kind for kind in kinds if kind != "control" or cell.control)


def cost_digests(cell: Cell) -> dict[str, str]:
    """The digest of each kind of cost of a cell's shape."""
    return code_digests(cell, cost_kinds(cell))


def _parts(cell: Cell, kind: Kind) -> tuple[names.Part, ...]:
    """The parts whose code makes this number."""
    if cell.is_floor:
        parts: list[names.Part] = [names.find(names.floors(), cell.backbone)]
    elif cell.is_peer:
        parts = [names.find(PEERS, cell.backbone)]
    else:
        parts = [names.find(names.backbones(), cell.backbone), names.find(names.compressions(), cell.compression)]
        if (cell.control and kind in BESIDE_CONTROL) or (cell.distillation and kind in TAUGHT):
            parts.append(names.find(names.compressions(), "full"))
    if kind in ("training", "evaluation"):
        parts.append(names.dataset_part(cell.dataset))
    return tuple(parts)


def _modules_of(part: names.Part) -> list[str]:
    """The module that builds a part, and the one that builds a backbone's item encoder; a peer is built elsewhere."""
    if isinstance(part, PeerPart):
        return []
    targets = [part.target] + ([names.ITEM_ENCODERS[part.items]] if isinstance(part, names.BackbonePart) else [])
    return [target.partition(":")[0] for target in targets]


@functools.cache
def _digest(kind: Kind, parts: tuple[names.Part, ...], *, on_several: bool) -> str:
    of_peer = any(isinstance(part, PeerPart) for part in parts)
    probes = [PEER_PROBES[kind], PEER_WORKER] if of_peer else [PROBES[kind], MODELS]
    probes += [SEVERAL] if on_several else []
    is_made = any(isinstance(part, names.DatasetPart) and part.synthetic for part in parts)
    probes += [CEILING] if kind == "evaluation" and is_made else []
    roots = [*probes, *(module for part in parts for module in _modules_of(part))]
    return modules_digest(roots, beside="\n".join(json.dumps(part.numbers(), sort_keys=True) for part in parts))


def modules_digest(roots: Iterable[str], *, beside: str = "") -> str:
    """The digest of the code that importing ``roots`` can lead to, and of a text beside it."""
    hasher = hashlib.sha256(beside.encode())
    for module in sorted(imported(roots)):
        hasher.update(f"{module}\0{_module(module)[0]}\0".encode())
    return hasher.hexdigest()


def imported(roots: Iterable[str]) -> set[str]:
    """The modules that importing ``roots`` can lead to, inside the packages of the project and of the roots, themselves among them."""
    roots = list(roots)
    packages = {*PACKAGES, *(root.partition(".")[0] for root in roots)}
    modules: set[str] = set()
    waiting = roots
    while waiting:
        module = waiting.pop()
        if module in modules or module in LEFT_OUT or module.partition(".")[0] not in packages or _source(module) is None:
            continue
        modules.add(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
        waiting += _module(module)[1]
    return modules


@functools.cache
def _module(module: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's code, and the modules that it imports."""
    source = _source(module)
    return ("", ()) if source is None else _read(source.read_bytes(), module, source.name == "__init__.py")


@functools.cache
def _read(code: bytes, module: str, is_package: bool) -> tuple[str, tuple[str, ...]]:
    """The same, from the bytes of the module's file."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{module}: its file is no Python: {error}") from error
    without_docstrings(tree)
    return hashlib.sha256(_text(tree).encode()).hexdigest(), tuple(_imports(tree, module, is_package=is_package))


def _text(node: Any) -> str:
    """A tree as text without what is empty in it, since each version of Python adds fields that are empty in older code."""
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return f"{type(node).__name__}({', '.join(f'{name}={_text(value)}' for name, value in fields)})"


def without_docstrings(tree: ast.AST) -> None:
    """Takes the docstrings out of a tree."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """What a module may import, at its head or later; not what it names for its types alone."""
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A tree's nodes but those under ``if TYPE_CHECKING``."""
    yield node
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from _run_nodes(child)


@functools.cache
def _source(module: str) -> Path | None:
    """The file of a module; ``None`` where there is no such module, as for a name inside one."""
    if module.partition(".")[0] in PACKAGES:
        path = PROJECT.joinpath(*module.split("."))
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
