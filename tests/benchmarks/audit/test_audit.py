"""Where targets were before is what a search by hand finds; what counters gain is a paired difference."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.audit.command import main
from benchmarks.audit.history import Places, audit, by_category, mean_with_interval
from benchmarks.audit.record import Asked, Audit, AuditRecord, Shares, SmallModel, gain_in_words, to_json
from benchmarks.audit.table import model_table, table
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out

histories = st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=9), min_size=1, max_size=8)


def split_of(of_users, **protocol):
    lengths = [len(items) for items in of_users]
    log = InteractionLog(
        name="x",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([np.array(items) for items in of_users]),
        times=np.arange(1, sum(lengths) + 1),
        num_items=6,
        protocol=Protocol(**protocol),
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    return leave_one_out(log)


@settings(max_examples=60)
@given(of_users=histories, recent=st.integers(1, 4))
def test_a_target_is_recent_older_or_new(of_users, recent):
    split = split_of(of_users)
    places = Places.of(split.past("test"), split.targets("test"), recent)
    for row, items in enumerate(of_users):
        past, target = items[:-1], items[-1]
        assert places.recent[row] == (target in past[-recent:])
        assert places.older[row] == (target in past[:-recent] and target not in past[-recent:])
    short = split.past("test").newest(np.arange(len(of_users)), recent)
    assert [items.tolist() for items, _ in short] == [items[:-1][-recent:] for items in of_users]


def test_shares_sum_to_one_and_the_older_items_are_worth_what_the_counter_gains():
    # each user's own item is among the older events alone
    split = split_of([[number % 5 + 1] * 3 + [(number + 1) % 5 + 1, number % 5 + 1] for number in range(40)])
    found = audit(split, None, recent=1)
    assert (found.users, found.targets, found.events_before, found.older_events) == (40, 40, 4.0, 3.0)
    assert (found.shares.recent, found.shares.older, found.shares.new) == (0.0, 1.0, 0.0)
    gain, low, high = found.counters["own items"].gain["ndcg@10"]
    assert low <= gain <= high
    assert low > 0
    assert found.counters["own items"].whole["ndcg@10"] == 1.0


@pytest.mark.parametrize(
    ("per_user", "bounded"), [([0.5], False), ([0.1, 0.9, 0.4] * 3, False), ([0.25] * 40, False), ([0.1, 0.9, 0.4, 0.2] * 10, True)]
)
def test_few_users_and_users_who_are_all_alike_give_no_interval(per_user, bounded):
    mean, low, high = mean_with_interval(np.array(per_user), seed=0)
    assert mean == pytest.approx(np.mean(per_user))
    assert (low is not None and high is not None and low < mean < high) == bounded
    assert gain_in_words(mean, low, high).count("(") == bounded
    assert gain_in_words(0.0, 0.0, 0.0) == "+0.0000"  # as older records have it


def test_a_category_counts_with_all_its_items():
    categories = np.array([0, 1, 1, 2, 0, 2])
    scores = by_category(categories)(np.array([0, 1, 0, 0, 9, 3]), (np.array([0, 3]), np.array([1, 1, 3])))
    assert np.argsort(-scores[0], kind="stable").tolist() == [1, 2, 5, 3, 4, 0]


def test_the_command_prints_and_writes_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    assert main(["synthetic", "--size", "tiny", "--recent", "8", "--split", "temporal", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "own categories" in printed
    record = json.loads((tmp_path / "out" / "audits" / "synthetic-temporal.json").read_text())
    assert sum(record["audit"]["shares"].values()) == pytest.approx(1)
    assert record["argv"][-1] == "out"
    assert len(record["days"]) == 2


def test_the_record_of_another_audit_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    asked = ["synthetic", "--size", "tiny", "--out", str(tmp_path)]
    assert main([*asked, "--recent", "8"]) == 0
    path = tmp_path / "audits" / "synthetic-leave-one-out.json"
    before = path.read_bytes()
    assert main([*asked, "--recent", "4"]) == 2
    assert "is the record of another audit (--size tiny, --recent 8, data " in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main([*asked, "--recent", "8"]) == 0


def test_a_bad_call_is_one_line(capsys):
    assert main(["nothing"]) == 2
    error = capsys.readouterr().err
    assert ("unknown 'nothing'" in error, error.count("\n")) == (True, 1)


def test_the_page_holds_the_table_of_the_committed_records():
    project = Path(__file__).resolve().parents[3]
    assert table(project / "results" / "audits") in (project / "docs" / "history_audit.md").read_text()


def test_the_page_holds_the_small_models_of_the_committed_records():
    project = Path(__file__).resolve().parents[3]
    models = model_table(project / "results" / "audits")
    assert len(models.splitlines()) > 2
    assert models in (project / "docs" / "history_audit.md").read_text()


def test_a_row_of_a_small_model_is_its_gains_over_asking_without_the_older_items(tmp_path):
    answer = Asked(ndcg=0.25, gain=0.0, low=None, high=None)
    asked = {"without": answer, "with": replace(answer, gain=0.02, low=0.01, high=0.03), "shuffled": answer, "aged": answer}
    sizes = {"width": 32, "layers": 2, "history": 112, "recent": 16, "seed": 1, "seconds": 1.0}
    model = SmallModel(counts=True, steps=1234, converged=False, asked=asked, **sizes)
    shares = Shares(recent=0.2, older=0.3, new=0.5)
    facts = Audit(recent=16, users=1500, targets=1500, events_before=9.0, older_events=0.0, shares=shares)
    record = AuditRecord(
        dataset="x", size=None, split="temporal", days=(), digest="d", seen_items="kept", statistics={}, audit=facts, argv=(), commit=None
    )
    (tmp_path / "a.json").write_bytes(to_json(replace(record, model=model)))
    (tmp_path / "b.json").write_bytes(to_json(record))
    *_, row = model_table(tmp_path).splitlines()
    gains = "+0.0200 (+0.0100 to +0.0300) | +0.0000 | +0.0000"
    assert row == f"| x | temporal | 1,500 | 16 | yes | 1,234 (no plateau) | 0.2500 | {gains} |"
    assert len(model_table(tmp_path).splitlines()) == 3
