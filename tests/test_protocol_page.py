"""What the page on the protocol says of longer training and of elastic models stands in the committed records."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.analysis.configurations import configurations
from benchmarks.analysis.elastic import ElasticPair, elastic_pairs
from benchmarks.analysis.estimates import Estimate, recovered
from benchmarks.analysis.references import best_on_validation
from benchmarks.analysis.trained import models_of
from benchmarks.cell import Cell
from benchmarks.records import Record, RunRecords, load_records
from benchmarks.records.types import TrainedModel

PROJECT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (\w+) · (.+?) \| ([\d,]+) \| (0\.\d+) \| ([\d,]+) \| (0\.\d+) \| ([+-][\d.]+%) \|$", re.MULTILINE)
OF_TOKENS = re.compile(r"^\| (\d+) \| (0\.\d+) \| (0\.\d+) \| ([+-][\d.]+%) \|$", re.MULTILINE)
POINT = re.compile(r"^\| (full history|\d+) \| (\d+) \| (0\.\d+) \| ([\d, ]+) \| (0\.\d+) \| ([\d, ]+) \| (.+) \|$", re.MULTILINE)
HLLM = ("hllm", "full")
COMPRESSIONS = {"full history": "full", "PerSRec": "experts", "recent only": "recent"}


def models(records: RunRecords) -> dict[tuple[str, str], TrainedModel]:
    """The models of seed 1 by backbone and compression; of elastic ones those of the grids' three histories, HSTU's tokens taught."""
    return {
        (cell.backbone, cell.compression): record.model
        for record in records
        if record.model is not None and (cell := record.cell).seed == 1 and len(cell.elastic_history or ()) in (0, 3) and is_fulls(cell)
    }


def is_fulls(cell: Cell) -> bool:
    """Whether a cell is taught as those of `full` are: HSTU's tokens alone."""
    return (cell.distillation > 0) == ((cell.backbone, cell.compression) == ("hstu", "experts"))


def by_tokens(records: RunRecords, compression: str = "experts") -> dict[int, float]:
    """NDCG@10 on test by token count, of HSTU's model of seed 1 behind the longest history, served from the user's own tokens."""
    found = {}
    for record in records:
        cell, value = record.cell, record.value("ndcg@10")
        plain = (cell.ablation, cell.staleness, cell.cache_dtype, cell.seed, cell.history) == ("none", 0, "float32", 1, 64)
        if plain and is_fulls(cell) and (cell.backbone, cell.compression) == ("hstu", compression) and value is not None:
            found[cell.tokens] = value
    return found


def test_what_longer_training_gains_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "protocol.md").read_text()
    said = {(row[0].lower(), COMPRESSIONS[row[1]]): row[2:] for row in ROW.findall(page)}
    full, twice = (load_records(PROJECT / "results" / f"{grid}-synthetic-cpu") for grid in ("full", "twice"))
    short, long = models(full), models(twice)
    assert set(said) == set(long) - {HLLM}
    of_full, longer = short[HLLM], long[HLLM]
    assert of_full.steps < longer.steps < 1.9 * of_full.steps
    sentences = (
        f"takes {of_full.steps:,} steps and reaches {of_full.best_validation:.4f} on validation",
        f"took {longer.steps:,} steps, less than twice as many, and reached {longer.best_validation:.4f}",
    )
    assert all(sentence in page.replace("\n", " ") for sentence in sentences)
    for key, row in said.items():
        numbers = []
        for model in (short[key], long[key]):
            assert model.converged
            assert model.steps is not None
            assert model.best_validation is not None
            numbers.append((model.steps, model.best_validation))
        (steps, before), (more, after) = numbers
        assert row == (f"{steps:,}", f"{before:.4f}", f"{more:,}", f"{after:.4f}", f"{after / before - 1:+.1%}")
        assert more > 1.9 * steps
    then, now = by_tokens(full), by_tokens(twice)
    of_tokens = [(str(tokens), f"{then[tokens]:.4f}", f"{now[tokens]:.4f}", f"{now[tokens] / then[tokens] - 1:+.1%}") for tokens in now]
    assert sorted(OF_TOKENS.findall(page)) == sorted(of_tokens)
    assert len(of_tokens) == 4
    most, least = (by_tokens(twice, compression)[0] for compression in ("full", "recent"))
    shares = [f"{(now[tokens] - least) / (most - least):.1%}" for tokens in (4, 16)]
    assert "4 tokens recover {} of what the full history is worth, 16 tokens {}".format(*shares) in page.replace("\n", " ")


def test_what_patience_does_to_hllm_is_what_the_records_say() -> None:
    page = " ".join((PROJECT / "docs" / "protocol.md").read_text().split())
    records = load_records(PROJECT / "results" / "hllm-synthetic-cpu")
    ends = [f"{record.value('ndcg@10'):.4f}" for record in of_hllm(records, "experts", patience=3)]
    assert len(ends) == 3
    assert f"three seeds ended at {min(ends)} to {max(ends)} with 16 tokens" in page
    tokens, whole = of_hllm(records, "experts", patience=8), of_hllm(records, "full", patience=8)
    assert len(tokens) == len(whole) == 2
    assert all(record.model is not None and record.model.converged for record in (*tokens, *whole))
    of_tokens, of_whole = ([f"{record.value('ndcg@10'):.4f}" for record in records] for records in (tokens, whole))
    steps = [f"{record.model.steps:,}" for record in tokens if record.model is not None]
    said = "two seeds end at {} and {}, after {} and {} steps, and full attention at {} and {}"
    assert said.format(*of_tokens, *steps, *of_whole) in page


def of_hllm(records: RunRecords, compression: str, *, patience: int) -> list[Record]:
    """HLLM's records of 16 tokens, or of full attention, served from a cache behind the longest history, by seed."""
    tokens = 16 if compression == "experts" else 0
    wanted = {"backbone": "hllm", "compression": compression, "tokens": tokens, "history": 64, "serving": "cache"}
    wanted |= {"ablation": "none", "staleness": 0, "cache_dtype": "float32", "patience": patience}
    found = [record for record in records if all(getattr(record.cell, name) == value for name, value in wanted.items())]
    return sorted(found, key=lambda record: record.cell.seed)


def point(pair: ElasticPair) -> tuple[str, ...]:
    """A row of the page's table, as the records have it."""
    cell, difference = pair.elastic.cell, pair.difference("ndcg@10")
    sides = []
    for one in (pair.separate, pair.elastic):
        models = models_of(one)
        assert len(models) == 3
        assert all(model.converged for model in models)
        sides += [f"{one.quality('ndcg@10').value:.4f}", ", ".join(f"{model.steps:,}" for model in models)]
    interval = f"({difference.low:+.4f} to {difference.high:+.4f})"
    tokens = "full history" if cell.compression == "full" else str(cell.tokens)
    return tokens, str(cell.history), *sides, f"{difference.value:+.4f} {interval}"


def test_what_elastic_training_costs_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "protocol.md").read_text()
    pairs = elastic_pairs(configurations(load_records(PROJECT / "results" / "elastic-synthetic-cpu")))
    assert sorted(POINT.findall(page)) == sorted(point(pair) for pair in pairs)
    assert len(pairs) == 6
    behind_64 = {(pair.elastic.cell.compression, pair.elastic.cell.tokens): pair for pair in pairs if pair.elastic.cell.history == 64}

    def both(compression: str, tokens: int) -> list[Estimate]:
        pair = behind_64[compression, tokens]
        return [one.quality("ndcg@10") for one in (pair.separate, pair.elastic)]

    def control(compression: str) -> Estimate:
        pair = behind_64[compression, 0]
        best = best_on_validation([pair.separate, pair.elastic])
        assert best is not None
        return best.quality("ndcg@10")

    no_token, full = control("experts"), control("full")
    own, elastic = (f"{recovered(quality, no_token, full).value:.1%}" for quality in both("experts", 4))
    assert f"recovers {own} of what the full history is worth" in page.replace("\n", " ")
    assert f"where the elastic one recovers {elastic}" in page.replace("\n", " ")


def test_how_near_full_attention_comes_to_the_ceiling_is_what_the_records_say() -> None:
    page = (PROJECT / "docs" / "protocol.md").read_text().replace("\n", " ")
    found: dict[str, list[float]] = {}
    for record in load_records(PROJECT / "results" / "full-synthetic-cpu"):
        cell, value = record.cell, record.value("ndcg@10")
        if (cell.compression, cell.history, cell.serving, cell.staleness) == ("full", 64, "recompute", 0) and value is not None:
            assert record.dataset is not None
            found.setdefault(cell.backbone, []).append(value / record.dataset.ceiling["whole_past"]["ndcg@10"])
    shares = {backbone: f"{sum(values) / len(values):.1%}" for backbone, values in found.items()}
    said = "reaches {hstu} by HSTU, {sasrec} by SASRec, {llama} by Llama and {hllm} by HLLM in `full`"
    assert said.format(**shares) in page


@pytest.mark.parametrize("name", ["step", "long_step"])
def test_how_much_faster_a_step_is_is_what_the_comparison_says(name: str) -> None:
    page = (PROJECT / "docs" / "protocol.md").read_text().replace("\n ", "")
    record = json.loads((PROJECT / "results" / "compare" / f"{name}.json").read_text())
    assert record["base"]["commit"].startswith("a082921")
    for finding in record["findings"]:
        effect, backbone = finding["effect"], finding["cell"].split(" ")[0]
        if finding["metric"] == "train_batch":
            share = f"{-effect['value']:.1%} less( time)? \\({-effect['high']:.1%} to {-effect['low']:.1%}\\) with {backbone}"
            assert re.search(share, page)
