"""A folder of small records and a baseline made of them, for tests of the gate."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.environment import HASHED_FACTS, fingerprint
from benchmarks.gate import command as gate
from benchmarks.keys import cell_key, quality_key
from benchmarks.measures import versions
from benchmarks.records import record_files

PASS, REGRESSION, BAD_INPUT, INCOMPLETE, NOT_COMPARABLE = 0, 1, 2, 3, 4
NUMBERS = {"ndcg@10": 0.2, "recall@10": 0.4, "serve_flops": 1_000_000, "cache_bytes": 4096, "serve_latency_p50_ms": 2.0}
LEDGER_COUNTS = ("formula_flops", "torch_flops", "fvcore_flops", "visible_flops", "executed_flops")
COMMIT = "0123456789abcdef"
Change = Callable[[dict[str, Any]], object]


def machine(cpu: str = "a cpu", **others: Any) -> dict[str, Any]:
    """The facts of a machine and their fingerprint, as a record holds them."""
    facts = {**dict.fromkeys(HASHED_FACTS), "packages": {"torch": "2.13.0"}, "memory_bytes": 2**33, "cpu": cpu, **others}
    return {**facts, "fingerprint": fingerprint(facts)}


def record(tokens: int, *, dataset: str = "synthetic", device: str = "cpu", measures: dict[str, int] | None = None) -> dict[str, Any]:
    """A record of PerSRec with so many tokens, as its file holds it."""
    return record_of_cell(Cell(backbone="hstu", compression="experts", tokens=tokens, dataset=dataset, device=device), measures=measures)


def record_of_cell(cell: Cell, *, measures: dict[str, int] | None = None) -> dict[str, Any]:
    """A record of any cell, as its file holds it."""
    measures = measures or versions()
    digest = f"digest of {cell.dataset}"
    return {
        "schema_version": 2,
        "cell_key": cell_key(cell, dataset_digest=digest, versions=measures),
        "status": "ok",
        "cell": cell.to_dict(),
        "measure_versions": measures,
        "metrics": {
            **{name: {"value": value, "method": "counted"} for name, value in NUMBERS.items()},
            "serve_energy_j": {"value": None, "method": "no NVML device"},
            "compress_flops": {"value": None, "method": "not this cell"},
        },
        "quality": {
            "key": quality_key(cell, dataset_digest=digest),
            "status": "ok",
            "code": {"training": "code", "evaluation": "code"},
            "environment": machine(),
        },
        "cost": {"key": "c", "status": "ok", "code": {"flops": "code"}, "environment": machine()},
        "ledger": [
            {"phase": "serve", "part": part, "agrees": True, **dict.fromkeys(LEDGER_COUNTS, NUMBERS["serve_flops"])}
            for part in ("attention", "total")
        ],
        "dataset": {"name": cell.dataset, "size": None, "digest": digest},
        "error": None,
        "environment": machine(),
        "provenance": {"commit": COMMIT},
    }


def fail(status: str) -> Change:
    """A cell whose cost ended so."""

    def failing(values: dict[str, Any]) -> None:
        values["status"], values["cost"]["status"], values["metrics"] = status, status, {}
        values["error"] = {"phase": "flops", "type": "ValueError", "message": "an op without a price", "log_tail": None}

    return failing


@dataclass
class GatedRun:
    """A folder of results of three cells, and a baseline made of them."""

    folder: Path
    baseline: Path

    @classmethod
    def of(cls, place: Path) -> "GatedRun":
        """With 0, 4 and 8 tokens."""
        run = cls(folder=place / "run", baseline=place / "baselines" / "run.json")
        for tokens in (0, 4, 8):
            run.add(record(tokens))
        assert run.gate("--update") == PASS
        return run

    def add(self, values: dict[str, Any]) -> Path:
        """Writes a record in its place."""
        path = self.folder / "cells" / f"{values['cell_key']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
        return path

    def replace_all(self, **options: Any) -> None:
        """Other records in the place of all."""
        for path in record_files(self.folder):
            path.unlink()
        for tokens in (0, 4, 8):
            self.add(record(tokens, **options))

    def change(self, tokens: int, change: Change) -> None:
        """Applies ``change`` to the record of that many tokens."""
        for path in record_files(self.folder):
            values = json.loads(path.read_text())
            if values["cell"]["tokens"] == tokens:
                change(values)
                path.write_text(json.dumps(values))

    def elsewhere(self) -> None:
        """As if every quality were of a machine that the baseline does not know."""
        for tokens in (0, 4, 8):
            self.change(tokens, lambda values: values["quality"].update(environment=machine("another cpu")))

    def scale(self, tokens: int, **factors: float) -> None:
        """Multiplies numbers of one record, and FLOPs in its ledger too; ``_at_`` stands for the at-sign."""

        def scaled(values: dict[str, Any]) -> None:
            for name, factor in factors.items():
                values["metrics"][name.replace("_at_", "@")]["value"] *= factor
                for row in values["ledger"]:
                    if name == f"{row['phase']}_flops":
                        row |= {count: round(row[count] * factor) for count in LEDGER_COUNTS}

        self.change(tokens, scaled)

    def remove(self, tokens: int) -> None:
        """Removes the record of that many tokens."""
        for path in record_files(self.folder):
            if json.loads(path.read_text())["cell"]["tokens"] == tokens:
                path.unlink()

    def gate(self, *options: str) -> int:
        """The gate's exit code."""
        return gate.main([str(self.folder), "--baseline", str(self.baseline), *options])

    def findings(self, *options: str) -> tuple[int, list[tuple[str, int, str | None]]]:
        """The exit code and all that is no PASS: verdict, tokens, metric."""
        out = self.folder / "gate.json"
        code = self.gate("--json", str(out), *options)
        content = json.loads(out.read_text())
        assert content["exit_code"] == code
        tokens_of = {
            values["cell_key"]: values["cell"]["tokens"] for path in record_files(self.folder) for values in [json.loads(path.read_text())]
        }
        tokens_of |= {key: entry["cell"]["tokens"] for key, entry in json.loads(self.baseline.read_text())["entries"].items()}
        listed = [(finding["verdict"], tokens_of[finding["cell_key"]], finding["metric"]) for finding in content["findings"]]
        return code, [finding for finding in listed if finding[0] != "PASS"]
