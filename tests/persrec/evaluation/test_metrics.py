import math

import numpy as np
import pytest

from persrec.evaluation.metrics import bootstrap_means, is_share, metric_values, summarise, wilson


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
        summary = summarise((random.random(200) < 0.3).astype(float), share=True, seed=trial)
        hits += summary.low <= 0.3 <= summary.high
    assert 0.9 < hits / 200 < 0.99


def test_a_mean_is_bounded_by_the_bootstrap():
    values = np.random.Generator(np.random.PCG64(0)).random(10)
    summary, replicates = summarise(values, share=False), bootstrap_means(values)
    assert (summary.value, summary.n, summary.note) == (values.mean(), 10, "")
    assert (summary.low, summary.high) == tuple(np.percentile(replicates, [2.5, 97.5]))
    assert summarise(values, share=False, replicates=replicates) == summary


def wilson_by_hand(count, n, z=1.959963984540054):
    """The roots p of (count / n - p)^2 = z^2 p (1 - p) / n."""
    centre, half = (count + z * z / 2) / (n + z * z), z * math.sqrt(count * (n - count) / n + z * z / 4) / (n + z * z)
    return centre - half, centre + half


@pytest.mark.parametrize(("count", "n"), [(3, 10), (1, 60), (59, 60), (5, 8), (1, 2)])
def test_a_share_is_bounded_by_the_wider_of_the_bootstrap_and_wilson(count, n):
    values = np.arange(n) < count
    summary = summarise(values, share=True)
    bootstrap, (least, most) = np.percentile(bootstrap_means(values), [2.5, 97.5]), wilson_by_hand(count, n)
    assert (summary.value, summary.note) == (count / n, "")
    assert (summary.low, summary.high) == pytest.approx((min(bootstrap[0], least), max(bootstrap[1], most)))
    assert wilson(count, n) == pytest.approx((least, most))


@pytest.mark.parametrize("n", [1, 2, 9, 10, 60])
def test_users_who_are_all_alike_are_not_certain(n):
    unlike = wilson_by_hand(0, n)[1]
    for value in (0.0, 1.0):
        summary = summarise(np.full(n, value), share=True)
        assert (summary.low, summary.high) == pytest.approx((0, unlike) if value == 0 else (1 - unlike, 1))
        assert summary.note == f"interval for {n} users who are all alike, by Wilson"
    assert summarise(np.ones(1), share=True).low == pytest.approx(0.2065, abs=1e-4)
    assert summarise(np.zeros(60), share=True).high == pytest.approx(0.0602, abs=1e-4)


def test_a_mean_of_users_who_are_all_alike_may_be_off_by_those_who_are_not():
    unlike = wilson_by_hand(0, 20)[1]
    for value in (0.0, 0.5, 1.0):
        summary = summarise(np.full(20, value), share=False)
        # a share ``unlike`` of all users may have 0, or 1, in place of the value
        assert (summary.low, summary.high) == pytest.approx(((1 - unlike) * value, (1 - unlike) * value + unlike))
        assert summary.value == value


@pytest.mark.parametrize("n", [1, 9])
def test_a_mean_of_few_users_has_no_interval_and_says_why(n):
    for values in (np.zeros(n), np.linspace(0, 1, n)):
        summary = summarise(values, share=False)
        assert (summary.value, summary.low, summary.high, summary.n) == (values.mean(), None, None, n)
        assert summary.note == f"no interval, {n} users are fewer than 10"


def test_recall_is_a_share_and_nothing_else_is():
    assert [name for name in metric_values(np.array([1])) if is_share(name)] == ["recall@5", "recall@10", "recall@50", "recall@200"]
    assert is_share("recall@10_repeat")


def test_no_users_have_no_value():
    summary = summarise(np.zeros(0), share=True)
    assert (summary.value, summary.low, summary.high, summary.n, summary.note) == (None, None, None, 0, "no user")
    with pytest.raises(ValueError, match="values: no users"):
        bootstrap_means(np.zeros(0))
