"""A small model that is asked with the older items, without, shuffled and aged."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.audit import small_model
from benchmarks.audit.command import main
from benchmarks.audit.small_model import RECIPE, audited_model, build_small_model
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = dataclasses.replace(RECIPE, epochs=3, targets_per_step=256, negatives=16, learning_rate=1e-2, warmup_steps=5)


def long_ago(users=60, **protocol):
    """Each user's own item is among the first events and then only the target: worth nothing to who sees the last two alone."""
    random = np.random.default_rng(0)
    of_users = []
    for user in range(users):
        own, others = user % 20 + 1, random.integers(21, 25, 6)
        of_users.append(np.concatenate([[own] * 3, others, [own] * 2]))
    lengths = [len(items) for items in of_users]
    log = InteractionLog(
        name="x",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate(of_users),
        times=np.arange(1, sum(lengths) + 1),
        num_items=25,
        protocol=Protocol(**protocol),
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    return leave_one_out(log)


def test_the_answers_say_what_the_older_items_are_worth():
    found = audited_model(long_ago(), recent=1, recipe=QUICK, history=10)
    assert set(found.asked) == {"without", "with", "shuffled", "aged"}
    without, whole = found.asked["without"], found.asked["with"]
    assert (without.gain, without.low, without.high) == (0.0, None, None)  # the same for every user
    assert whole.gain == pytest.approx(whole.ndcg - without.ndcg)
    assert whole.low <= whole.gain <= whole.high
    assert found.counts
    assert found.steps > 0


def test_older_items_that_tell_are_found_to():
    """The item before the target is the user's own: behind one other item, the older ones alone tell which."""
    split = long_ago()
    hidden = dataclasses.replace(split, test=dataclasses.replace(split.test, positions=split.test.positions - 1))  # after the others
    found = audited_model(hidden, recent=1, recipe=dataclasses.replace(QUICK, epochs=20), history=10)
    assert found.asked["with"].low > 0.1


def test_each_question_is_asked_of_the_history_that_it_names(monkeypatch):
    """Shuffled is the whole history in another order, aged one that ends as many items early as are recent, counts with it."""
    split, asked = long_ago(), {}

    def ranked(model, split_, states, *, history=None, gap=0):
        asked[name] |= {"history": history, "gap": gap}
        return np.zeros(1)

    def served(model, split_, part, *, serving, time_bias):
        asked[name] |= {"ablation": serving.ablation, "staleness": serving.staleness}

    monkeypatch.setattr(small_model, "_ranked", ranked)
    monkeypatch.setattr(small_model, "served_states", served)
    monkeypatch.setattr(small_model, "user_states", lambda *_, history, **__: asked[name].update(states=history))
    for name, ask in small_model._questions(3).items():
        asked[name] = {}
        ask(build_small_model(split, recent=3, history=6), split, False)
    assert asked == {
        "without": {"states": 0, "history": 0, "gap": 0},
        "with": {"states": None, "history": None, "gap": 0},
        "shuffled": {"ablation": "shuffled_history", "staleness": 0, "history": None, "gap": 0},
        "aged": {"ablation": "none", "staleness": 3, "history": None, "gap": 3},
    }


def test_a_model_counts_where_items_are_repeated_alone():
    assert build_small_model(long_ago(), recent=2, history=8).counting is not None
    assert build_small_model(long_ago(seen_items="excluded"), recent=2, history=8).counting is None


def test_the_command_trains_and_writes_what_it_found(tmp_path, monkeypatch, capsys):
    """Of a model that was trained elsewhere: what is printed and kept."""
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    found = audited_model(long_ago(users=20), recent=1, recipe=dataclasses.replace(QUICK, epochs=1), history=10)
    monkeypatch.setattr(small_model, "audited_model", lambda *_, **__: found)
    assert main(["synthetic", "--size", "tiny", "--recent", "8", "--model", "--out", str(tmp_path / "out")]) == 0
    assert "one small model, one seed" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "audits" / "synthetic-leave-one-out.json").read_text())
    assert record["model"]["asked"]["with"]["ndcg"] == found.asked["with"].ndcg
    assert record["model"]["history"] == 10
