import math
import time

import numpy as np
import pytest

from persrec.evaluation.metrics import bootstrap_means, metric_values, summarise


def test_metrics_of_a_rank_by_hand():
    found = metric_values(np.array([1, 3, 5, 6, 50, 51, 200, 201]))
    assert found["recall@5"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert found["recall@10"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert found["recall@50"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert found["recall@200"].tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert found["ndcg@5"] == pytest.approx([1, 1 / 2, 1 / math.log2(6), 0, 0, 0, 0, 0])
    assert found["ndcg@10"][3] == pytest.approx(1 / math.log2(7))
    assert found["ndcg@200"][-2:] == pytest.approx([1 / math.log2(201), 0])
    assert found["mrr"] == pytest.approx([1, 1 / 3, 1 / 5, 1 / 6, 1 / 50, 1 / 51, 1 / 200, 1 / 201])
    assert list(found) == [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10, 50, 200)] + ["mrr"]


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="ranks: 0; expected 1 or more"):
        metric_values(np.array([1, 0]))


def test_replicates_are_means_over_users_drawn_with_replacement():
    values = np.array([0.0, 1.0, 5.0])
    possible = {(a + b + c) / 3 for a in values for b in values for c in values}
    means = bootstrap_means(values, replicates=4000)
    assert means.shape == (4000,)
    assert {round(mean, 9) for mean in means.tolist()} == {round(mean, 9) for mean in possible}
    # mean of the draws 2, variance of a draw's mean: (1/3) * ((4 + 1 + 9) / 3)
    assert means.mean() == pytest.approx(2, abs=4 * math.sqrt(14 / 9 / 4000))
    assert means.var() == pytest.approx(14 / 9, rel=0.1)


def test_draws_depend_on_the_seed_and_the_number_of_users_alone():
    random = np.random.Generator(np.random.PCG64(5))
    first, second = random.random(300), random.random(300)
    both = bootstrap_means(np.stack([first, second], axis=1))
    assert both.shape == (500, 2)
    assert both[:, 0] == pytest.approx(bootstrap_means(first))
    # paired: the difference of replicates is the replicate of the difference
    assert bootstrap_means(first) - bootstrap_means(second) == pytest.approx(bootstrap_means(first - second))
    assert not np.allclose(bootstrap_means(first), bootstrap_means(first, seed=1))


def test_fewer_replicates_are_the_first_of_more():
    values = np.random.Generator(np.random.PCG64(5)).random(40_000)  # more than one chunk
    assert bootstrap_means(values, replicates=3) == pytest.approx(bootstrap_means(values, replicates=220)[:3])


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    random = np.random.Generator(np.random.PCG64(0))
    hits = 0
    for trial in range(200):
        summary = summarise((random.random(200) < 0.3).astype(float), seed=trial)
        hits += summary.low <= 0.3 <= summary.high
    assert 0.9 < hits / 200 < 0.99


def test_a_summary_says_value_bounds_and_number():
    values = np.array([1.0, 0.0, 0.0, 1.0])
    summary = summarise(values)
    assert (summary.value, summary.n) == (0.5, 4)
    replicates = bootstrap_means(values)
    assert (summary.low, summary.high) == tuple(np.percentile(replicates, [2.5, 97.5]))
    assert summarise(values, replicates=replicates) == summary


def test_no_users_have_no_value():
    summary = summarise(np.zeros(0))
    assert (summary.value, summary.low, summary.high, summary.n) == (None, None, None, 0)
    with pytest.raises(ValueError, match="values: no users"):
        bootstrap_means(np.zeros(0))


def test_nine_metrics_of_six_thousand_users_take_about_a_second_at_most():
    values = np.random.Generator(np.random.PCG64(0)).random((6000, 9))
    began = time.perf_counter()
    bootstrap_means(values)
    assert time.perf_counter() - began < 5  # 0.1 s here; the bound allows for a busy machine
